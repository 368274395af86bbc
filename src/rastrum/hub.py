"""Models on the Hugging Face Hub: "hf://OWNER/NAME@REVISION", through ``huggingface_hub`` and its mixin.

Downloads are those files of a repository that a model is made of, one by one and by name, into the cache that all of the Hub's libraries
share (HF_HOME): nothing else that lies there is looked at, so neither pickles nor names that lead out of a folder. All of them are of the
commit that the revision stood for when config.json was read. With HF_HUB_OFFLINE=1, or where the Hub cannot be reached, the cache answers.

The library is imported when it is needed, since it is slow to import and an extra of the package.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from .card import HUB, card
from .data.sources import as_path, is_public

if TYPE_CHECKING:
    from .checkpoint import Origin
    from .model import Model

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
RESULTS = ".eval_results/rastrum.yaml"
REVISION = r"\w[\w.-]*(?:/[\w.-]+)*"
ADDRESS = rf"{HUB}(\w[\w.-]*/\w[\w.-]*)(?:@({REVISION}))?"
DATA_FLAGS = ("--data", "--data.name")
FOLDER_FLAGS = ("--run.folder", "--start", "--resume")


def parse(address: str) -> tuple[str, str | None]:
    """The repository and the revision of an ``address``; None for a revision that is not named. ``ValueError`` for any other text."""
    match = re.fullmatch(ADDRESS, address, re.ASCII)
    if match is None or ".." in address:
        raise ValueError(f"model: expected {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION (a branch, a tag or a commit), got {address!r}")
    return match[1], match[2]


def download(repository: str, name: str, revision: str | None, optional: bool = False) -> Path | None:
    """A file of a repository, in the folder of the commit that the revision stands for; None for an optional one that is not there.

    repository: "OWNER/NAME".
    name: of the file.
    revision: a branch, a tag or a commit; None = the main branch.
    optional: whether the repository may lack it, False by default.

    Raises ``ValueError`` for what the Hub does not have or does not show, ``OSError`` where it cannot be reached, ``ImportError`` without
    the extra ``hub``; one line each.
    """
    library = _library(f"{HUB}{repository}")
    address = f"{HUB}{repository}" + (f"@{revision}" if revision else "")
    cached = library.try_to_load_from_cache(repository, name, revision=revision)
    if isinstance(cached, str) and re.fullmatch(r"[0-9a-f]{40}", revision or ""):   # a commit does not change
        return Path(cached)
    unreachable = _unreachable(library, library.hf_hub_url(repository, name, revision=revision))
    try:
        path = library.hf_hub_download(repository, name, revision=revision, library_name="rastrum", local_files_only=bool(unreachable))
        return Path(path)
    except library.errors.EntryNotFoundError as error:                    # also of a file that is not in the cache
        if optional:
            return None
        raise _explain(error, address, name, unreachable) from None
    except Exception as error:  # the library's own errors are of many kinds
        raise _explain(error, address, name, unreachable) from None


def _unreachable(library: Any, url: str) -> str:
    """Why the Hub cannot be reached, "" if it can: asked here once, since the library tries for half a minute before it says so.

    library: ``huggingface_hub``.
    url: of the file. Its answer must give the file a plain name in the cache.
    """
    try:
        metadata = library.get_hf_file_metadata(url)
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        return "" if status is not None and status < 500 else " ".join(str(error).split())[:200] or type(error).__name__
    for part in (metadata.etag, metadata.commit_hash):
        if part is not None and not re.fullmatch(r"[\w-]+", part):
            raise OSError(f"{url}: the answer is none of the Hub's ({part[:50]!r})")
    return ""


def push(
    model: Model,
    origin: Origin,
    repository: str,
    license: str | None = None,
    branch: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    delete_patterns: list[str] | str | None = None,
    class_names: bool = True,
    **options: Any,
) -> str:
    """Upload a model to the Hub with the mixin's ``push_to_hub``. What the Hub would refuse is found out before anything is created there.

    model: to upload.
    origin: where it comes from, as it would be saved on this machine.
    repository: "OWNER/NAME", or "NAME" for a repository of one's own.
    license, branch, private, token, delete_patterns, class_names: as for ``Model.push_to_hub``.
    options: further ones of the mixin's.

    Returns and raises what ``Model.push_to_hub`` does.
    """
    check_license(license)
    if not _matches(r"(\w[\w.-]*/)?\w[\w.-]*", repository):
        raise ValueError(f"push_to_hub: expected OWNER/NAME, got {repository!r}")
    if branch is not None and not _matches(REVISION, branch):
        raise ValueError(f"push_to_hub: expected the name of a branch, got {branch!r}")
    library = _library("push_to_hub")
    if unreachable := _unreachable(library, library.hf_hub_url(repository, "config.json")):
        raise OSError(f"{HUB}{repository}: the Hub cannot be reached ({unreachable})")
    try:
        library.ModelCard(card(model, public(origin), f"{HUB}{repository}")).validate()
        interface = library.HfApi(token=token, library_name="rastrum")
        repository = interface.create_repo(repository, private=private, exist_ok=True).repo_id
        if branch is not None and not options.get("create_pr"):
            interface.create_branch(repository, branch=branch, exist_ok=True)
        deleted = [delete_patterns] if isinstance(delete_patterns, str) else list(delete_patterns or [])
        if interface.file_exists(repository, RESULTS, revision=branch):   # scores of the version before
            deleted.append(RESULTS)
        return library.ModelHubMixin.push_to_hub(
            model,  # pyright: ignore[reportArgumentType], the mixin asks for save_pretrained alone
            repository,
            branch=branch,
            private=private,
            token=token,
            delete_patterns=deleted or None,
            model_card_kwargs={
                "license": license,
                "address": f"{HUB}{repository}" + (f"@{branch}" if branch else ""),
                "class_names": class_names,
            },
            **options,
        )
    except Exception as error:
        raise _explain(error, f"{HUB}{repository}", "") from None


def check_license(license: str | None) -> None:
    """Raises ``ValueError`` for what the Hub does not take as a ``license``; None is none."""
    if license is not None and not _matches(r"[a-z0-9][a-z0-9.+-]*", license):
        raise ValueError(f"license: expected an identifier of the Hub's, in lower case, such as mit or cc-by-4.0, got {license!r}")


def _matches(pattern: str, text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(pattern, text, re.ASCII) is not None and ".." not in text


# ── what goes out ────────────────────────────────────────────────────────────────────────────────────────────────────────


def public(origin: Origin) -> Origin:
    """The same without folders of this machine: of the path of the images only its last part goes out, of those of runs nothing.

    origin: as it is saved on this machine.
    """
    data = None if origin.data is None else replace(origin.data, name=_public_name(origin.data.name))
    commands = tuple(filter(None, map(_public_command, origin.commands)))
    return replace(origin, data=data, commands=commands)


def _public_name(name: str) -> str:
    """That of a data set; of a path "folder:" and its last part, which no data set is called."""
    path = name.removeprefix("folder:")
    last = PureWindowsPath(path).name                                     # it knows both separators
    if is_public(name) or (last == name and as_path(name) is None):
        return name
    if last in ("", "..") or last.startswith("~"):
        last = Path(path).expanduser().resolve().name or "images"
    return f"folder:{last}"


def _public_command(command: str) -> str:
    """What was typed, word by word; "" for what is not made of words."""
    lexer = shlex.shlex(command, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""  # as shlex.join quotes; \ is a separator of Windows
    words, flag = [], ""
    try:
        for word in lexer:
            if word.startswith("--"):
                flag, equals, value = word.partition("=")
                words.append(flag + equals + (_public_value(flag, value) if equals else ""))
            else:
                words.append(_public_value(flag, word))
    except ValueError:                                                    # a quote without its end
        return ""
    return shlex.join(words)


def _public_value(flag: str, value: str) -> str:
    """The value of a flag; FOLDER stands for a run, as in the commands of recipes."""
    if flag in DATA_FLAGS:
        return _public_name(value)
    if _matches(rf"{ADDRESS}|rastrum/[\w.-]+", value):
        return value
    if flag in FOLDER_FLAGS:
        return "FOLDER"
    return PureWindowsPath(value).name if re.search(r"[/\\]", value) else value


# ── the library ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _library(what: str) -> Any:
    try:
        import huggingface_hub.errors
    except ImportError:
        raise ImportError(f"{what}: models on the Hub need the extra hub: pip install huggingface_hub") from None
    return huggingface_hub


def _explain(error: Exception, address: str, name: str, unreachable: str = "") -> Exception:
    """The error of the library in one line, with a remedy; ``name`` is "" while a model is uploaded."""
    from huggingface_hub import errors

    said = " ".join(str(error).removeprefix("- Error: ").split())[:300] or type(error).__name__
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    repository, _, revision = address.partition("@")
    if isinstance(error, errors.GatedRepoError):
        return ValueError(f"{repository} is gated: accept its terms on its page on the Hub, and {LOG_IN}")
    if isinstance(error, errors.RepositoryNotFoundError) or (status == 401 and name):
        return ValueError(f"{repository} is not on the Hub, or it is private: check the name; for a private model, {LOG_IN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(f"{repository} has no branch, tag or commit {revision or 'main'!r}")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        missing = f", and {name} of this revision is not in the cache" if name else ""
        return OSError(f"{address}: the Hub cannot be reached ({unreachable or said}){missing}")
    if isinstance(error, errors.EntryNotFoundError):
        return ValueError(f"{address} has no {name}; it is no model of Rastrum's")
    if status in (401, 403) or isinstance(error, errors.LocalTokenNotFoundError):
        answer = getattr(response, "headers", {}).get("X-Error-Message") or said
        return OSError(f"{address}: the Hub refuses this without a login that may do it ({answer.rstrip('.')}): {LOG_IN}")
    if isinstance(error, ValueError | ImportError) and status is None:
        return type(error)(said) if type(error) in (ValueError, ImportError) else ValueError(f"{address}: {said}")
    interrupted = name and status is None and getattr(error, "errno", None) is None      # the disk's errors have a number
    return OSError(f"{address}: {said}" + ("; run it again, it goes on where the download stopped" if interrupted else ""))
