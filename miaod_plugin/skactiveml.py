"""Both ways between this package and scikit-activeml, which the extra ``miaod-plugin[skactiveml]`` installs."""

import inspect
from collections.abc import Callable

import numpy as np
from sklearn.base import clone

from .data.image_sets import check_images, images_like
from .errors import ConfigError, did_you_mean, shown
from .labeled import labeled_images
from .parameters import RandomState
from .query import QueryStrategy
from .randomness import seed_of

try:
    from skactiveml import pool
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy
    from skactiveml.utils import check_scalar, check_type, is_labeled
except ImportError as error:
    raise ConfigError("scikit-activeml is not installed; pip install 'miaod-plugin[skactiveml]'") from error


class DetectionQueryStrategy(SingleAnnotatorPoolQueryStrategy):
    """A query strategy of this package as one of scikit-activeml.

    Parameters
    ----------
    query_strategy : QueryStrategy
    estimator : ObjectDetector
    fit_estimator : bool
        Whether a query fits a copy of the estimator to the annotated images, and to those without annotation if its
        training learns from them; otherwise the estimator must be fitted.
    missing_label : None
        What stands for the target of an image that nobody has annotated.
    random_state : int or RandomState, optional
        In place of the strategy's own.

    Examples
    --------
    >>> from miaod_plugin import ObjectDetector
    >>> from miaod_plugin.baselines import EntropySampling
    >>> from miaod_plugin.data import make_digit_scenes
    >>> data = make_digit_scenes(8, random_state=0)
    >>> data.y[4:] = None
    >>> detector = ObjectDetector("retinanet_tiny", classes=data.classes, max_steps=2, random_state=0)
    >>> picked = DetectionQueryStrategy(EntropySampling(), detector).query(data.X, data.y, batch_size=2)
    >>> len(picked), bool(picked.min() >= 4)
    (2, True)
    """

    def __init__(self, query_strategy, estimator, fit_estimator=True, missing_label=None, random_state=None):
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.query_strategy = query_strategy
        self.estimator = estimator
        self.fit_estimator = fit_estimator

    def query(self, X, y, candidates=None, batch_size=1, return_utilities=False):
        """Return which images to annotate next.

        Parameters
        ----------
        X : ndarray
            All images, ``(n,)`` paths or ``(n, H, W, 3)`` uint8 images.
        y : ndarray of object, (n,)
            Their targets, ``None`` for those without annotation.
        candidates : ndarray, optional
            Rows of X, or images, to choose from; by default those without annotation.
        batch_size : int
            How many to choose.
        return_utilities : bool
            Whether to return utilities, too. With a strategy whose choices depend on each other, such as core-set,
            each of their rows is one more pass over the candidates.

        Returns
        -------
        query_indices : ndarray of int, (batch_size,)
            Rows of X, or of `candidates` if those are images, best first.
        utilities : ndarray of float, (batch_size, n)
            For each choice the utilities from which it was made; nan where X has no candidate, or one that was chosen
            before. ``(batch_size, len(candidates))`` if those are images.
        """
        check_type(self.query_strategy, "query_strategy", QueryStrategy)
        check_scalar(self.fit_estimator, "fit_estimator", bool)
        X, images = check_images(X), None
        if _are_images(candidates):
            images = images_like(X, candidates, "candidates")
            candidates = _row_numbers(images)
        _, y, candidates, batch_size, return_utilities = self._validate_data(
            _row_numbers(X), y, candidates, batch_size, return_utilities
        )
        annotated = is_labeled(y, self.missing_label_)
        labeled = (X[annotated], y[annotated]) if annotated.any() else None
        estimator = clone(self.estimator).fit(X, y) if self.fit_estimator else self.estimator
        strategy = clone(self.query_strategy)
        if self.random_state is not None and "random_state" in strategy.get_params():
            strategy.set_params(random_state=seed_of(self.random_state_))
        if images is None:
            _, rows = self._transform_candidates(candidates, _row_numbers(X), y)
            images, n = X[rows], len(X)
        else:
            n = len(images)
            rows = np.arange(n)
        picked, _ = strategy.query(estimator, images, batch_size, labeled=labeled)
        if not return_utilities:
            return rows[picked]
        utilities = np.full((batch_size, n), np.nan)
        utilities[:, rows] = _utilities(strategy, estimator, images, picked, labeled)
        return rows[picked], utilities


def _are_images(candidates) -> bool:
    """Whether candidates are images, not rows."""
    if candidates is None or isinstance(candidates, type | str):
        return False
    array = np.asarray(candidates)
    return array.ndim == 4 or (array.ndim == 1 and array.dtype.kind in "UO")


def _row_numbers(images: np.ndarray) -> np.ndarray:
    """Return what scikit-activeml, which takes vectors, checks in the place of images, ``(n, 1)``."""
    return np.arange(len(images))[:, None]


def _utilities(strategy: QueryStrategy, estimator, images: np.ndarray, picked: np.ndarray, labeled) -> np.ndarray:
    """Return the utilities of all images before each pick, ``(len(picked), n)``, nan for those picked before."""
    table = np.full((len(picked), len(images)), np.nan)
    if type(strategy).select is QueryStrategy.select:  # utilities do not depend on what was picked
        order, utilities = strategy.query(estimator, images, len(images), labeled=labeled)
        table[:, order] = utilities
    else:
        labeled = labeled_images(estimator, labeled)
        asked = strategy.prepared(estimator, images, labeled)
        if strategy.needs_labeled == "targets":  # what was picked has none yet
            table[:] = strategy.utilities(asked, images, labeled=labeled)
        for k in range(len(picked) if strategy.needs_labeled != "targets" else 0):
            known = images[picked[:k]] if labeled is None else np.concatenate([labeled.X, images[picked[:k]]])
            table[k] = strategy.utilities(asked, images, labeled=known)
    for k in range(len(picked)):
        table[k, picked[:k]] = np.nan
    return table


class EmbeddingSampling(QueryStrategy):
    """A query strategy of scikit-activeml that looks at samples alone, asked about the embeddings of images.

    It gets `ObjectDetector.transform` of the pool and of the annotated images, and learns which are annotated, but not
    what is on them. In experiments and on the command line it goes by its name: ``skactiveml:TypiClust``.

    Parameters
    ----------
    strategy : SingleAnnotatorPoolQueryStrategy
        Such as ``TypiClust()``; its `missing_label` does not matter.
    random_state : int, optional
        In place of the strategy's own.

    Examples
    --------
    >>> from miaod_plugin import ObjectDetector
    >>> from miaod_plugin.data import make_digit_scenes
    >>> from skactiveml.pool import TypiClust
    >>> data = make_digit_scenes(10, random_state=0)
    >>> detector = ObjectDetector("retinanet_tiny", classes=data.classes, max_steps=2, random_state=0)
    >>> detector = detector.fit(data.X[:4], data.y[:4])
    >>> picked, typicalities = EmbeddingSampling(TypiClust(), random_state=0).query(detector, data.X[4:], n_instances=2)
    >>> len(picked)
    2
    """

    needs_labeled = "images"

    def __init__(self, strategy, random_state: RandomState = None):
        self.strategy = strategy
        self.random_state = random_state

    def utilities(self, estimator, X, *, labeled=None) -> np.ndarray:
        """Return the utilities from which the first image is chosen, ``(n,)``."""
        return self._asked(estimator, X, 1, labeled)[1][0]

    def select(self, estimator, X, n_instances: int, *, labeled=None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``(indices, utilities)`` of the choice, each utility as it was when the image was chosen."""
        picked, utilities = self._asked(estimator, X, n_instances, labeled)
        return picked, utilities[np.arange(len(picked)), picked]

    def _asked(self, estimator, X, n_instances: int, labeled) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of X that the strategy chooses, and its utilities ``(n_instances, n)``."""
        known = self.known_images(estimator, labeled)
        embeddings, n_known = estimator.transform(X), len(known.X)
        if n_known:
            embeddings = np.concatenate([estimator.transform(known.X), embeddings])
        y = np.full(len(embeddings), np.nan)
        y[:n_known] = 0
        strategy = clone(self.strategy).set_params(missing_label=np.nan)
        if self.random_state is not None:
            strategy.set_params(random_state=seed_of(self.random_state))
        candidates = np.arange(n_known, len(embeddings))
        try:
            picked, utilities = strategy.query(embeddings, y, candidates, n_instances, return_utilities=True)
        except Exception as error:  # it checks its parameters only now, and stumbles over images that are all alike
            raise ConfigError(
                f"scikit-activeml's {type(self.strategy).__name__} does not work so ({error}); give it other parameters"
                " or images, or choose another strategy"
            ) from error
        return picked - n_known, utilities[:, n_known:]


def embedding_sampling(name: str) -> Callable[..., EmbeddingSampling]:
    """Return a function that makes scikit-activeml's strategy `name` look at embeddings, with that one's parameters.

    Those that are functions or classes are not among what a file or a command may set.

    Raises
    ------
    ConfigError
        If scikit-activeml has no such strategy, or one that wants to be shown more than samples.
    """
    theirs = _strategies()
    if name not in theirs:
        needs = _needs(getattr(pool, name)) if name in pool.__all__ and hasattr(getattr(pool, name), "query") else None
        why = f"{name} needs {' and '.join(needs)}" if needs else f"it has no {shown(name)}"
        raise ConfigError(
            f"strategy: of scikit-activeml, those that look at embeddings alone can be named; {why}"
            f"{did_you_mean(name, theirs)}"
        )

    def build(*, random_state: RandomState = None, **options) -> EmbeddingSampling:
        return EmbeddingSampling(theirs[name](**options), random_state)

    parameters = [
        one.replace(kind=one.KEYWORD_ONLY)
        for one in inspect.signature(theirs[name]).parameters.values()
        if one.name not in ("missing_label", "random_state") and not callable(one.default)
    ]
    own = inspect.signature(build).parameters["random_state"]
    build.__signature__ = inspect.Signature([*parameters, own], return_annotation=EmbeddingSampling)
    build.__doc__ = theirs[name].__doc__
    return build


def _strategies() -> dict[str, type]:
    """Return scikit-activeml's strategies that need nothing but samples, and no other strategy, by name."""
    classes = {name: getattr(pool, name) for name in pool.__all__ if hasattr(getattr(pool, name), "query")}
    return {name: theirs for name, theirs in classes.items() if not _needs(theirs)}


def _needs(theirs: type) -> list[str]:
    """Return what a strategy asks for besides samples and which of them are annotated."""
    parameters = inspect.signature(theirs.query).parameters
    needs = [name for name, one in parameters.items() if one.default is one.empty and name not in ("self", "X", "y")]
    return needs + [name for name in inspect.signature(theirs).parameters if name in ("query_strategy", "classes")]
