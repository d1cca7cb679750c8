"""The one line a person reads when a file of settings says what it may not."""

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import ValidationError

from ..errors import did_you_mean, shown
from .sections import Section, WrongKeyError


def first_line(error: ValidationError, model: type[Section]) -> str:
    """Return 'key.path: what is wrong; what is allowed' for the first problem, and how many more there are."""
    problem = error.errors(include_url=False)[0]
    location = [part for part in problem["loc"] if part != "[key]"]
    if location[:1] == ["data"]:
        del location[1:2]  # the kind, which pydantic puts between the section and its keys
    cause = problem.get("ctx", {}).get("error")
    if problem["type"] == "extra_forbidden":
        message = f"unknown key{did_you_mean(location[-1], _keys_at(problem['loc'][:-1], model))}"
    elif problem["type"] == "union_tag_invalid":
        kind, kinds = problem["ctx"]["tag"], problem["ctx"]["expected_tags"]
        location, message = [*location, "kind"], f"{shown(kind)} is not known; give {kinds}"
    elif isinstance(cause, WrongKeyError):
        location, message = [*location, cause.key], str(cause)
    elif cause is not None:
        message = str(cause)
    elif problem["type"] in ("missing", "union_tag_not_found"):
        message = "this key is missing" if problem["type"] == "missing" else "the key 'kind' is missing"
    else:
        message = f"got {shown(problem['input'])}; {problem['msg'][0].lower()}{problem['msg'][1:]}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    where = ".".join(str(part) for part in location)
    return f"{where}: {message}{more}" if where else f"{message}{more}"


def _keys_at(location: Sequence, model: Any) -> set[str]:
    """Return the keys allowed at a location that pydantic reports (list indices and union tags included)."""
    for part in location:
        if isinstance(part, int):
            continue
        if isinstance(model, type) and issubclass(model, Section):
            model = model.model_fields[part].annotation
            while args := [arg for arg in get_args(model) if arg is not type(None)]:
                if len(args) > 1 and all(isinstance(arg, type) and issubclass(arg, Section) for arg in args):
                    break  # the union of data sets: the next part is its tag
                model = args[0]
        else:
            by_tag = {get_args(one.model_fields["kind"].annotation)[0]: one for one in get_args(model)}
            model = by_tag[part]
    return set(model.model_fields)
