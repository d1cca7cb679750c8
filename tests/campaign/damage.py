"""Ways to damage bytes, texts and trees; each says what it did."""

import copy
from random import Random

NASTY = (
    *(None, True, False, -1, 0, 1, 5.5, -0.0, 1e308, float("nan"), float("inf"), 10**30, -(2**63)),
    *(
        "",
        " ",
        "0",
        "-1",
        "nan",
        "a\nb",
        "\0",
        "\x1b[31m",
        "\ud800",
        "\u202e",
        "é",
        "x" * 300,
        "9" * 5000,
        " " * 20_000,
    ),
    *(
        "../outside.txt",
        "../outside/file.txt",
        "/etc/passwd",
        "C:\\x",
        "..",
        ".",
        "a/b",
        "~",
        "$HOME",
        "*",
        "cat",
        "cpu",
    ),
    *([], {}, [[]], [None], {"a": None}, [1, 2, 3, 4], {"": ""}, ["a", "a"], [float("nan")] * 4, [1e30] * 4),
)
TOKENS = (
    *(b"\0", b"\n", b"\r\n", b"\xff\xfe", b"\xef\xbb\xbf", b"<", b">", b"&", b'"', b"'", b"{", b"[", b"]", b",", b":"),
    *(
        b"-1",
        b"1e999",
        b"nan",
        b"99999999999999999999",
        b"null",
        b"../outside.txt",
        b"\x1b[31m",
        b"\xed\xa0\x80",
        b"\t",
    ),
)


def damaged_bytes(rng: Random, content: bytes, others: tuple[bytes, ...] = ()) -> tuple[bytes, str]:
    """Return other bytes: flipped, cut, repeated, lost, filled, replaced, or spliced with those of another file."""
    content, n = bytearray(content), len(content)
    at, length = rng.randrange(n), rng.choice((1, 2, 4, 16, 256, n))
    end = min(n, at + length)
    kind = rng.choice(
        ("flip", "flip", "flip", "set", "cut", "lose", "repeat", "fill", "insert", "token", "swap", "splice")
    )
    if kind == "flip":
        places = [rng.randrange(n) for _ in range(rng.choice((1, 1, 1, 2, 8)))]
        for place in places:
            content[place] ^= 1 << rng.randrange(8)
        return bytes(content), f"flip {places}"
    if kind == "set":
        content[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
    elif kind == "cut":
        del content[at:]
    elif kind == "lose":
        del content[at:end]
    elif kind == "repeat":
        content[at:at] = content[at:end] * rng.choice((1, 2, 30))
    elif kind == "fill":
        content[at:end] = bytes([rng.choice((0, 0xFF, rng.randrange(256)))]) * (end - at)
    elif kind == "insert":
        content[at:at] = rng.randbytes(length % 1000 + 1)
    elif kind == "token":
        token = rng.choice(TOKENS)
        content[at : at + rng.choice((0, len(token)))] = token
    elif kind == "swap":
        other = rng.randrange(n)
        content[at], content[other] = content[other], content[at]
    else:
        other = rng.choice(others or (bytes(content),))
        content[at:] = other[rng.randrange(len(other)) :] if other else b""
    return bytes(content), f"{kind} at {at}, {length}"


def damaged_tree(rng: Random, tree, nasty=NASTY) -> tuple[object, str]:
    """Return a copy of nested lists and dicts with one or a few nodes replaced, lost, doubled, renamed or wrapped."""
    tree, said = copy.deepcopy(tree), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree, []))
        if not places:
            break
        path = rng.choice(places)
        parent = _at(tree, path[:-1])
        said.append(f"{_damage_node(rng, parent, path[-1], nasty)} at {'.'.join(map(str, path))}")
    return tree, "; ".join(said)


def _damage_node(rng: Random, parent, key, nasty) -> str:
    kind = rng.choice(("replace", "replace", "replace", "lose", "double", "rename", "wrap", "deepen", "lengthen"))
    if kind == "replace":
        parent[key] = copy.deepcopy(rng.choice(nasty))
        return f"replace by {parent[key]!r:.40}"
    if kind == "lose":
        del parent[key]
    elif kind == "double" and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif kind == "rename" and isinstance(parent, dict):
        parent[rng.choice([name for name in nasty if isinstance(name, str)])] = parent.pop(key)
    elif kind == "deepen":
        for _ in range(rng.choice((3, 50))):
            parent[key] = rng.choice(([parent[key]], {"a": parent[key]}))
    elif kind == "lengthen":
        value = parent[key]
        parent[key] = value * 500 if isinstance(value, list | str) else [value] * 500
    else:
        parent[key] = [parent[key]]
    return kind


def _places(tree, path: list):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield [*path, key]
        yield from _places(value, [*path, key])


def _at(tree, path: list):
    for key in path:
        tree = tree[key]
    return tree
