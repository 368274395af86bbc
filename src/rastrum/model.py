"""What every model is, whichever way it makes an image: images and condition it is for, a loss to train on, and a score in nats.

Raster models (``raster.py``) have exact likelihoods, canvas models (``canvas.py``, ``strokes.py``) a lower bound; a network without a
likelihood, such as a classifier, has a loss alone. Training and evaluation know nothing but this class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

import torch
from torch import Tensor, nn

from .exemplars import check_exemplar_map
from .notebook import safe, table
from .protocol import ArrayLike, ConditionSpec, ImageSpec, check_condition, check_kind

if TYPE_CHECKING:
    from .card import Paper
    from .checkpoint import Origin

# What a model's score is: log p itself, a lower bound on it, or a number that training lowers and that is no likelihood.
Kind: TypeAlias = Literal["exact", "bound", "loss"]


@dataclass(frozen=True)
class Objective:
    """A loss, and the parameters that a training step moves to lower it.

    name: for the curves of a run.
    loss: of images and their conditions, as ``Model.loss``: (B,).
    parameters: those that are moved.
    rate: factor of the learning rate, 1 by default.
    """

    name: str
    loss: Callable[..., Tensor]
    parameters: list[nn.Parameter]
    rate: float = 1.0


class Model(nn.Module, ABC):
    """Base of every model. A class that lacks one of the abstract methods cannot be instantiated.

    spec: shape and levels of the images that the model is for.
    config: the model's own options, a frozen dataclass; None for a model that has none.
    condition_spec: the condition that the model is given with each image; None for an unconditional model.

    Raises ``ValueError`` for a condition of a kind that the class does not take.
    """

    conditions: ClassVar[tuple[str, ...]] = ("class", "vector", "map")
    """The kinds of condition that models of this class take."""
    likelihood: ClassVar[Kind] = "loss"
    """What models of this class have: an exact likelihood, a bound on it, or only a loss."""
    no_likelihood: ClassVar[str] = "it is trained on a loss that is not a likelihood"
    """Why a model of this class may have no likelihood, and the remedy if there is one."""
    origin: Origin | None = None
    """Where a loaded model comes from: data, recipe, results; saving writes it again."""
    saved_picture: Mapping[str, bytes] | None = None
    """The picture of samples of a loaded model, by its name; saving writes it again."""
    paper: ClassVar[Paper | None] = None
    """What a card cites; None where there is nothing to cite."""
    initialised: Tensor
    """Bool, whether ``initialise`` has run; saved with the model where the class has a data-dependent initialisation."""
    slots: int = 0
    """How many exemplars a condition has room for; 0 where the model does not take it for a set of them."""

    def __init__(self, spec: ImageSpec, config: Any = None, condition_spec: ConditionSpec | None = None) -> None:
        super().__init__()
        check_kind(type(self).__name__, self.conditions, condition_spec)
        self.spec = spec
        self.config = config
        self.condition_spec = condition_spec
        has_initialisation = type(self).initialise is not Model.initialise
        self.register_buffer("initialised", torch.tensor(False), persistent=has_initialisation)

    # ── condition ────────────────────────────────────────────────────────────────────────────────────────────────────

    def check_condition(self, condition: ArrayLike | int | None, batch: int) -> Tensor | None:
        """A condition as users pass it, checked, on the model's device; a single one is repeated for the batch.

        condition: one per image, or one for all; None for an unconditional model.
        batch: number of images.

        Returns (batch, …), or None for an unconditional model. Raises ``ValueError`` if it does not fit the model, if it is
        missing, and for a map of exemplars with values that no picture has.
        """
        if condition is None and self.condition_spec is not None and (remedy := self.condition_remedy()):
            kind, size = self.condition_spec.kind, self.condition_spec.size
            raise ValueError(f"condition: this model needs one of kind {kind!r} and size {size}, got none; {remedy}")
        checked = check_condition(self.condition_spec, condition, batch, self.device)
        if checked is not None and self.slots:
            check_exemplar_map(checked, self.spec.channels)
        return checked

    def condition_remedy(self) -> str:
        """What to do where a condition is missing, for error messages; "" where its kind and size say it."""
        if not self.slots:
            return ""
        most = f"up to {self.slots} exemplars" if self.slots > 1 else "an exemplar"
        return f"it takes {most} of an image: rastrum.exemplar_map makes the map of them, and a map that is −1 everywhere has none"

    # ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """What training minimises, (B,): −log p(x) or −bound in nats where the model has a likelihood.

        x: integer levels (B, *spec.shape).
        condition: one per image, or one for all; None for an unconditional model.
        seed: of the noise that the loss draws, if it draws any; None draws from torch's generator.

        Works under ``torch.autocast`` too, which makes products and convolutions half precision; distributions, KL and sums stay float32
        or more. In bfloat16 the direction of the gradient hardly changes: its cosine with that in float32 is at least 0.99.
        """

    def objectives(self) -> tuple[Objective, ...]:
        """What a training step lowers, one after another; by default ``loss``, by all parameters that require a gradient."""
        return (Objective("loss", self.loss, [parameter for parameter in self.parameters() if parameter.requires_grad]),)

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> None:
        """Data-dependent initialisation (weight norm, whitening, mean image), which training runs before the first step.

        A class that defines it sets ``self.initialised`` at its end, so that it runs once. A model must work without it too.

        x: integer levels (B, *spec.shape).
        condition: as for ``loss``.
        """

    def progress(self, fraction: float) -> float:
        """Called before every training step, for models that learn in stages or warm up.

        fraction: how much of the training is done, 0 … 1.

        Returns the fraction of the current stage that is done: each stage has its own schedule of the learning rate.
        """
        return fraction

    @property
    def loss_is_nats(self) -> bool:
        """Whether ``loss`` is −log p or −bound at present, so that the loss of a step may be given in bits per dimension."""
        return self.has_likelihood

    def loss_floor(self, x: Tensor) -> Tensor | None:
        """The smallest loss that any model can have on images or frames, where it is known and not 0.

        x: integer levels (N, C, H, W).

        Returns (N,), or None (default) where nothing is known.
        """
        return None

    # ── score ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def has_likelihood(self) -> bool:
        """Whether the model, as configured, has a likelihood or a bound on it; otherwise it has only a training loss."""
        return self.likelihood != "loss"

    def require_likelihood(self) -> None:
        """Raises ``ValueError`` with the reason for a model that has no likelihood, and so no score in nats."""
        if not self.has_likelihood:
            configured = "" if self.likelihood == "loss" else " as configured"
            raise ValueError(f"{type(self).__name__}{configured} has no likelihood: {self.no_likelihood}")

    @property
    def kind(self) -> Kind:
        """What ``score`` gives: "exact" log-likelihoods, a "bound" on them, or the training "loss"."""
        return self.likelihood if self.has_likelihood else "loss"

    def nats(
        self, x: ArrayLike, condition: ArrayLike | int | None = None, num_samples: int = 1, seed: int = 0, first: int = 0
    ) -> Tensor:
        """Nats of each image, (B,), the lower the better: −log p(x), or −bound (``kind``).

        x: integer levels (B, *spec.shape).
        condition: one per image, or one for all; None for an unconditional model.
        num_samples: trajectories of a bound, 1 by default; the bound is tighter with more.
        seed: of the noise of a bound, 0 by default.
        first: number of the first image, 0 by default; the noise belongs to an image's number, so splitting a batch changes nothing.

        Under ``torch.autocast`` in bfloat16 scores differ from those in float32 by about 0.1 % (trained models: by 0.6 % at most for a
        single image, by 0.1 % in the mean; PixelCNN++ just after its initialisation by up to 3 %). Samples do not differ: what draws,
        completes or codes images ignores it.

        Raises ``ValueError`` for a model without a likelihood.
        """
        self.require_likelihood()
        return self.score(x, condition, num_samples, seed, first)

    def score(
        self, x: ArrayLike, condition: ArrayLike | int | None = None, num_samples: int = 1, seed: int = 0, first: int = 0
    ) -> Tensor:
        """What training watches on held-out images, (B,): ``nats``, or of a model without a likelihood its loss; parameters as there."""
        return self.loss(x, condition, seed)

    @property
    def images_at_a_time(self) -> int:
        """How many images are usually scored fastest in one call."""
        return 128

    # ── where it is ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.initialised.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the floating-point parameters."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.get_default_dtype())

    # ── images of another size ───────────────────────────────────────────────────────────────────────────────────────

    def resized(self, height: int, width: int, levels: int | None = None) -> Self:
        """The same weights for images of another size.

        height, width: in pixels.
        levels: of a value; None (default) = as many as now.

        Returns a model in evaluation mode that shares the tensors of this one, so that a change of the weights is a change of both.
        Raises ``ValueError`` for a model whose weights depend on the size or on the levels, and for a class that does not say how it is
        built: one without a config defines a ``resized`` of its own.
        """
        spec, name = replace(self.spec, height=height, width=width, levels=levels or self.spec.levels), type(self).__name__
        if self.config is None:
            raise ValueError(f"{name} has no config to build it again for {spec.text}; define its method `resized`")
        with torch.random.fork_rng(devices=[]):
            other = type(self)(spec, self.config, self.condition_spec)  # pyright: ignore[reportArgumentType]
        tensors = self.state_dict()
        for key, tensor in other.state_dict().items():
            if tensor.shape != tensors[key].shape:
                shapes = " and ".join("x".join(map(str, shape)) or "one value" for shape in (tensors[key].shape, tensor.shape))
                raise ValueError(f"{name}: its weights {key} are {shapes} for images of {self.spec.text} and of {spec.text}, "
                                 "so it runs on the former only")  # fmt: skip
        other.load_state_dict(tensors, assign=True)
        return other.to(self.device).eval()

    # ── what it shows of itself ──────────────────────────────────────────────────────────────────────────────────────────

    def extra_repr(self) -> str:
        """The first line of the model's text."""
        condition = "" if self.condition_spec is None else f"; condition: {self.condition_spec.kind} of size {self.condition_spec.size}"
        return f"{self.spec.text}{condition}; {self._parameter_count()} parameters; {self.kind}"

    def _parameter_count(self) -> str:
        return f"{sum(parameter.numel() for parameter in self.parameters()):,}"

    @safe
    def _repr_html_(self) -> str:
        options = fields(self.config) if is_dataclass(self.config) else ()
        condition, origin = self.condition_spec, self.origin
        rows = {
            "system": getattr(type(self), "name", None),
            "images": self.spec.text,
            "condition": "none" if condition is None else f"{condition.kind}, size {condition.size}",
            "parameters": self._parameter_count(),
            "likelihood": {"exact": "exact", "bound": "a lower bound", "loss": "none, only a loss"}[self.kind],
            "receptive field": self._sees(),
            "options": ", ".join(f"{option.name}={getattr(self.config, option.name)!r}" for option in options),
            "where": f"{self.device}, {str(self.dtype).removeprefix('torch.')}",
        }
        if origin is not None:
            rows |= {"recipe": origin.recipe, "trained": origin.training, "scored": "; ".join(map(str, origin.results))}
            data = origin.data
            rows["data"] = data and ", ".join(part for part in (f"{data.name} {data.train}", str(data)) if part)
        return table(type(self).__name__, rows)

    def _sees(self) -> str | None:
        """What of an image a decision may see, where that is known and quick to say."""
        return None

    def upgrade(self, tensors: dict[str, Tensor], saved_format: int) -> None:
        """Bring the tensors of a model that was saved in an earlier format to the present one, in place; by default nothing is changed.

        tensors: by name, as in ``state_dict``.
        saved_format: the format of the saved model, 1 or more.
        """

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        half: bool = False,
        license: str | None = None,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **push_options: Any,
    ) -> str | None:
        """Write weights, config and card to ``folder``, which is created; ``rastrum.load`` reads them.

        folder: path; files of other names in it stay.
        half: whether weights are rounded to float16, which halves the file; False by default. They are read as float32, so what is loaded
            is another model than this one, and is to be evaluated anew.
        license: of the weights, for the card, as the Hub spells it, such as "mit" or "cc-by-4.0"; None (default) = that which the model was
            loaded with, or none.
        config, model_card_kwargs: of the Hub's mixin, which calls this method. The config is the model's own, and nothing else is written;
            of the card only ``license``, ``address`` (how it says that the model is loaded) and ``class_names`` can be chosen.
        push_to_hub: whether to upload the model too, False by default; to ``repo_id``, by default the folder's name, with the
            ``push_options`` of ``push_to_hub``.
        push_options: private, branch, token and others of ``push_to_hub``; only with it.

        Returns the address of the Hub's commit, or None without ``push_to_hub``. Raises ``ValueError`` for a class that ``load`` could not
        rebuild, a licence that the Hub does not know how to read or another config, ``TypeError`` for an unknown option, and ``OSError`` if
        writing fails, with nothing changed.
        """
        from .card import HUB, evaluation_results
        from .checkpoint import save_pretrained
        from .files import write_files
        from .hub import RESULTS, check_license, public

        known = signature(self.push_to_hub).parameters
        for name in push_options:
            if not push_to_hub or name not in known:
                remedy = "give push_to_hub=True too, or leave it out" if name in known else "see its documentation for those it takes"
                raise TypeError(f"save_pretrained: unexpected option {name!r}; {remedy}")
        if config is not None and config != self.config:
            raise ValueError("config: a model is saved with the config that it was built with; leave it out")
        about = {"license": license, "address": "this folder", "class_names": True} | dict(model_card_kwargs or {})
        if unknown := sorted(about.keys() - {"license", "address", "class_names"}):
            raise ValueError(f"model_card_kwargs: the card takes license, address and class_names, got {unknown[0]!r}")
        license = about["license"] or license
        check_license(license)
        origin = self._origin_to_save(license, about["class_names"])
        if shared := about["address"].startswith(HUB):
            origin = public(origin)
        save_pretrained(self, folder, origin, self.saved_picture, about["address"], half)
        if shared and (results := evaluation_results(origin)):
            write_files((Path(folder) / RESULTS).parent, {Path(RESULTS).name: results.encode()})
        return self.push_to_hub(repo_id or Path(folder).name, license=license, **push_options) if push_to_hub else None

    def _origin_to_save(self, license: str | None, class_names: bool) -> Origin:
        from .checkpoint import Origin

        origin = self.origin or Origin()
        return replace(
            origin,
            license=license or origin.license,
            samples=origin.samples if self.saved_picture else None,
            class_names=origin.class_names if class_names else (),
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str | None = None,
        private: bool | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        commit_message: str = "Upload a model of Rastrum",
        token: str | None = None,
        allow_patterns: list[str] | str | None = None,
        ignore_patterns: list[str] | str | None = None,
        delete_patterns: list[str] | str | None = None,
        class_names: bool = True,
    ) -> str:
        """Upload weights, config, card and scores to the Hugging Face Hub, in one commit; ``rastrum.load("hf://OWNER/NAME")`` loads them.

        It is the ``push_to_hub`` of huggingface_hub's ``ModelHubMixin``, and needs the extra ``hub``. Of images of one's own their folder's
        name, their number, the names of their classes, the scores and the picture of samples go out; neither images nor paths do.

        repo_id: "OWNER/NAME", or "NAME" for a repository of one's own; created if need be.
        license: as for ``save_pretrained``.
        private: whether a new repository is private; None (default) = as the owner's settings say.
        branch: to commit to, created if need be; None (default) = "main".
        create_pr: open a pull request from the commit instead, False by default.
        commit_message: of the commit.
        token: of the Hub; None (default) = that of ``hf auth login`` or of HF_TOKEN.
        allow_patterns, ignore_patterns, delete_patterns: files to upload alone, to leave out, and to delete in the repository; None
            (default) = everything, nothing, nothing.
        class_names: whether to upload the names of the classes, True by default.

        Returns the address of the commit. Raises ``ValueError`` for a class that ``load`` could not rebuild, a name that is none, or
        metadata that the Hub refuses; ``OSError`` where it cannot be reached or asks for a login; ``ImportError`` without the extra.
        """
        from .checkpoint import name_of
        from .hub import push

        name_of(self)                                                     # before anything is created there
        return push(
            self,
            self._origin_to_save(license, class_names),
            repo_id,
            license,
            branch,
            private,
            token,
            delete_patterns,
            class_names,
            create_pr=create_pr,
            commit_message=commit_message,
            allow_patterns=allow_patterns,
            ignore_patterns=ignore_patterns,
        )
