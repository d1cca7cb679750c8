"""Several detectors as one estimator."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from sklearn.base import BaseEstimator

from .errors import ConfigError, cut_list, shown
from .rollback import unchanged_if_it_fails


class Committee(BaseEstimator):
    """Several detectors of the same classes, which `strategies.CommitteeSampling` asks how far they disagree.

    `fit` fits each of them, also in `DetectionLearner.teach`. What a committee detects, and whatever else it is asked,
    is what its first member says: its score is that of one detector, and every other strategy asks that one.

    Parameters
    ----------
    members : sequence of ObjectDetector
        At least two, of whatever architectures and trainings, or alike but for their `random_state`; fitted ones, such
        as loaded models, are asked as they are.

    Examples
    --------
    >>> from miaod_plugin import Committee, DetectionLearner, ObjectDetector
    >>> from miaod_plugin.data import make_digit_scenes
    >>> from miaod_plugin.strategies import CommitteeSampling
    >>> data = make_digit_scenes(8, random_state=0)
    >>> members = [ObjectDetector("retinanet_tiny", data.classes, max_steps=5, random_state=seed) for seed in (0, 1)]
    >>> learner = DetectionLearner(Committee(members), CommitteeSampling(), data.X[:4], data.y[:4])
    >>> picked, images = learner.query(data.X[4:], n_instances=2)
    >>> len(picked)
    2
    """

    def __init__(self, members: Sequence):
        self.members = members

    def fit(self, X, y, unlabeled=None) -> "Committee":
        """Fit each member to the same images; where one fails, all stay as they were. See `ObjectDetector.fit`."""
        self.check()
        with ExitStack() as members:
            for member in self.members:
                members.enter_context(unchanged_if_it_fails(member))
            for member in self.members:
                member.fit(X, y, unlabeled=unlabeled)
        return self

    def save(self, path) -> None:
        """Refuse: a file holds one detector."""
        raise ConfigError(f"{path}: a file holds one detector; save() each member of the committee to its own")

    def check(self) -> None:
        """Raise a ConfigError unless these are at least two detectors, of the same classes where they are fitted."""
        members = self.members
        if not isinstance(members, Sequence) or len(members) < 2 or not all(hasattr(one, "fit") for one in members):
            raise ConfigError(f"members: {shown(members)} is not allowed; give a list of at least two detectors")
        classes = [one.classes_.tolist() for one in members if hasattr(one, "classes_")]
        for other in classes[1:]:
            if other != classes[0]:
                raise ConfigError(
                    f"members: one knows the classes {cut_list(classes[0])}, another {cut_list(other)}; train all of"
                    " them with the same `classes`"
                )

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator:
        return iter(self.members)

    def __getattr__(self, name: str):
        if name == "members" or name.startswith("_"):
            raise AttributeError(name)
        self.check()
        return getattr(self.members[0], name)
