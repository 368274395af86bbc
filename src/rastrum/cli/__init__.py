"""The command line. Each command is a typed function in a module of this folder; here commands are looked up, parsed and run.

Exit codes: 0 done · 1 reading or writing failed, or a check found a fault · 2 bad input · 130 interrupted. With --json, stdout holds one
object of standard JSON in ASCII, whatever happens: the answer, or {"error": "…", "code": 2} with the line that stderr has. Other output has
the characters that the terminal has (streams.py). Nothing heavy is imported before a command runs, so that every help answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ..names import nearest
from .parsing import bind, parse
from .streams import any_characters, ends_as_ctrl_c, first_alone_speaks, number_of_processes

# name: (module, what it does)
COMMANDS = {
    "demo": ("about", "train three small models on the embedded digits and write demo/report.html"),
    "models": ("about", "the models, with sizes and the conditions they take"),
    "zoo": ("zoo", "the trained models in the package, with pictures, scores and commands"),
    "recipes": ("about", "the recipes: one for each reported number, with time and score"),
    "train": ("training", "train a recipe, or any model on any data; resume a run"),
    "plot": ("curves", "learning curves of one or more runs"),
    "evaluate": ("likelihood", "held-out score of a model: nats per image and bits/dim ± standard error"),
    "sample": ("drawing", "draw images"),
    "complete": ("drawing", "fill in the unknown part of images"),
    "reconstruct": ("drawing", "let a canvas model redraw images stroke by stroke"),
    "figures": ("figures", "all pictures that explain a trained model, with rate and distortion"),
    "figure": ("lecture", "one figure of the lecture, by its name, of a bundled model or of yours"),
    "lecture": ("lecture", "all figures of the lecture, as slides"),
    "score": ("scoring", "nats and bits/dim of each image, where it surprises, and whether it is unusual"),
    "compress": ("photographs", "photographs as files, lossless or progressive, which decode on every machine"),
    "decompress": ("photographs", "decode such files, as PNG"),
    "info": ("photographs", "what such files hold: size, colours, model, rate"),
    "verify": ("photographs", "decode such files and compare all pixels with their checksums"),
    "rates": ("rates", "the same images at the same rates, by JPEG, JPEG 2000 and a model"),
    "push": ("sharing", "share a model on the Hugging Face Hub; every command takes hf://OWNER/NAME as a MODEL"),
    "compare": ("compare", "train models of all kinds for the same time, and measure them"),
    "exemplars": ("exemplars", "one-shot generalization: nats by the number of exemplars, classification, and what is drawn"),
    "studio": ("studio", "watch models draw, in the browser"),
    "battle": ("battle", "let adversarial models judge each other's pictures"),
    "check": ("checking", "prove causality, context and normalisation of a model"),
}


# what several processes, started by torchrun, do together
SHARED = ("train", "evaluate", "sample", "complete", "score", "compress", "decompress", "verify")


def usage() -> str:
    """The text of ``rastrum --help``."""
    lines = ["usage: rastrum COMMAND [OPTIONS]", "", "Images made one decision after another.", "", "commands:"]
    lines += [f"  {name:<12} {what}" for name, (_, what) in COMMANDS.items()]
    lines += ["", "rastrum COMMAND --help shows a command's options; every command takes --json.", "rastrum --version prints the version."]
    lines += ["", "torchrun --nproc-per-node N -m rastrum COMMAND … runs it in N processes, which share the work and answer as one:"]
    lines += [f"{', '.join(SHARED)}."]
    return "\n".join(lines)


def complain(error: BaseException, code: int, as_json: bool = False) -> int:
    """Print an error as one line on stderr, and as an object on stdout if it is to hold JSON. Returns the exit code.

    Of several processes the one that ends first says why, since that is why the others end too.
    """
    stdout, stderr = sys.stdout, sys.stderr
    if number_of_processes() > 1:
        from ..processes import first_to_complain  # here, since it is slow to import

        if not first_to_complain():
            return code
        stdout, stderr = sys.__stdout__, sys.__stderr__
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(letter if letter.isprintable() else "?" for letter in text)   # a file's text gives no orders to a terminal
    print(f"rastrum: {text}", file=stderr, flush=True)
    if as_json:
        print(json.dumps({"error": text, "code": code}), file=stdout, flush=True)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    argv: the arguments; None (default): those of the process.
    """
    with any_characters(), first_alone_speaks(), ends_as_ctrl_c():
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    as_json = "--json" in rest
    try:
        if name == "--version":
            from .. import __version__

            print(__version__)
            return 0
        if name not in COMMANDS:
            raise ValueError(f"unknown command {name!r}; {nearest(name, list(COMMANDS))}")
        if name not in SHARED and number_of_processes() > 1:
            raise ValueError(f"{name}: runs in one process, and torchrun started {number_of_processes()}; start `rastrum {name}` alone")
        if name != "train" and number_of_processes() > 1 and not {"-h", "--help"} & set(rest):
            from ..processes import join  # here, since it is slow to import

            join().check_same(command=arguments)
        module = import_module(f".{COMMANDS[name][0]}", __name__)
        command = getattr(module, name)
        code = command(rest) if name == "train" else parse(bind(command), rest, f"rastrum {name}")()   # train's flags are its recipe's
        if sys.__stdout__ is not None:                                    # it was closed before we began
            sys.stdout.flush()
        return code or 0
    except SystemExit as stop:                                            # after help
        return int(stop.code or 0)
    except ValueError as error:
        return complain(error, 2, as_json)
    except BrokenPipeError:                                               # the reader of our output has gone, as with `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ImportError, MemoryError) as error:
        return complain(error, 1, as_json)
    except RuntimeError as error:
        from ..denormals import PortabilityError  # here, since it is slow to import

        if isinstance(error, PortabilityError) or "not enough memory" in str(error):
            return complain(error, 1, as_json)
        raise
    except KeyboardInterrupt:
        return complain(KeyboardInterrupt("interrupted"), 130, as_json)
