"""The frame of every entry point: Hydra around a typed config, and errors a person can use.

Nothing here, and nothing it imports, may import ``torch``: ``--help`` and a misspelt option have
to answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import select
import signal
import sys
import traceback
import typing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hydra import main as hydra_main
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ift_lightning.config.sweep_errors import explain_lost_job, naming_the_point
from ift_lightning.errors import RankError, UserError, suggest

ConfigT = TypeVar("ConfigT")
PACKAGE_DIR = Path(__file__).resolve().parents[1]
_LONGEST_NAME = 120  # characters of a folder's name; file systems allow 255 bytes


def config_dir() -> Path:
    """Return the folder of the YAML files: inside an installed wheel, or beside the package."""
    installed = PACKAGE_DIR / "conf"
    return installed if installed.is_dir() else PACKAGE_DIR.parent / "conf"


def unused_path(path: str) -> str:
    """Return ``path``, or ``path_1``, ``path_2``, … where a folder of that name exists already.

    Two runs that start within one second would otherwise write into one folder.
    """
    candidate, count = path, 0
    while Path(candidate).exists():
        count += 1
        candidate = f"{path}_{count}"
    return candidate


def point_folder(text: str, number: object) -> str:
    """Return the folder's name of a point: its overrides, without what a path cannot hold.

    Args:
        text: The overrides that differ, ``peft=lora,seed=0``.
        number: The point's number, its name where nothing differs.
    """
    name = re.sub(r"[^\w.=+,@-]+", "_", text).strip("_.")
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = f"{name[:_LONGEST_NAME]}-{digest}"
    return name or str(number)


def register_resolvers() -> None:
    """Make our own ``${unused_path:…}``, ``${package_path:…}`` and ``${point_folder:…}`` known."""
    OmegaConf.register_new_resolver("point_folder", point_folder, replace=True)
    # Cached, so that the answer stays the same once the folder has been made.
    OmegaConf.register_new_resolver("unused_path", unused_path, use_cache=True, replace=True)
    OmegaConf.register_new_resolver(
        "package_path", lambda path: str(PACKAGE_DIR / path), replace=True
    )


def register_schema(name: str, schema: type) -> None:
    """Register ``schema`` under ``NAME_schema``, where ``conf/NAME.yaml`` begins."""
    ConfigStore.instance().store(name=f"{name}_schema", node=schema)


def to_dataclass(config: DictConfig, schema: type[ConfigT]) -> ConfigT:
    """Return the composed config as an instance of ``schema``, every value resolved.

    Raises:
        UserError: A mandatory value is missing, or an interpolation leads nowhere.
    """
    _refuse_unknown_keys(config, schema, "")
    try:
        resolved = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(_explain_value_error(error)) from error
    assert isinstance(resolved, schema)
    return resolved


def _refuse_unknown_keys(config: DictConfig, schema: type, prefix: str) -> None:
    """Refuse what ``+key=value`` added to a dataclass, which nothing would ever read."""
    hints = typing.get_type_hints(schema)
    for key in config:
        name = str(key)
        if name not in hints:
            raise UserError(_explain_unknown_key(prefix + name, schema, name))
        nested = _dataclass_in(hints[name])
        if nested is None or OmegaConf.is_missing(config, name):
            continue
        node = config._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none():
            # A group's option may have a dataclass of its own, derived from the declared one.
            chosen = OmegaConf.get_type(node)
            if isinstance(chosen, type) and issubclass(chosen, nested):
                nested = chosen
            _refuse_unknown_keys(node, nested, f"{prefix}{name}.")


def open_keys(schema: type, prefix: str = "") -> list[str]:
    """Return the dotted keys of dictionaries that somebody else's signature governs.

    They accept any key, such as ``peft.config.lora_dropout=0.1``.
    """
    found: list[str] = []
    for name, hint in typing.get_type_hints(schema).items():
        nested = _dataclass_in(hint)
        if nested is not None:
            found += open_keys(nested, f"{prefix}{name}.")
        elif any(typing.get_origin(item) is dict for item in (hint, *typing.get_args(hint))):
            found.append(prefix + name)
    return found


def allow_new_keys(arguments: list[str], schema: type) -> list[str]:
    """Put ``++`` (add or change) before overrides of dictionaries that accept any key."""
    prefixes = tuple(f"{key}." for key in open_keys(schema))
    return [f"++{word}" if word.startswith(prefixes) else word for word in arguments]


def _explain_value_error(error: OmegaConfBaseException) -> str:
    key = str(getattr(error, "full_key", "") or "")
    if "missing mandatory value" in str(error).lower():
        return f"'{key}' needs a value. Give it on the command line: {key}=…"
    return f"'{key}': {str(error).splitlines()[0]}"


def entry_point(
    name: str,
    schema: type[ConfigT],
    *,
    complete: Callable[[DictConfig], DictConfig] | None = None,
    arguments: Callable[[list[str]], list[str]] | None = None,
    around: Callable[[Callable[[], Any]], Any] | None = None,
) -> Callable[[Callable[[ConfigT], Any]], Any]:
    """Turn ``function(config)`` into ``main()`` of ``python -m ift_lightning.NAME``.

    Args:
        name: Root config, ``conf/NAME.yaml``.
        schema: Dataclass of the root config.
        complete: Changes the composed config before it becomes a dataclass.
        arguments: Changes the words of the command line before Hydra reads them.
        around: Calls Hydra's main function, which it is given, and does what belongs around it.
    """
    register_resolvers()
    register_schema(name, schema)

    def decorate(function: Callable[[ConfigT], Any]) -> Callable[[], Any]:
        def task(config: DictConfig) -> Any:
            completed = complete(config) if complete is not None else config
            with naming_the_point():
                return function(to_dataclass(completed, schema))

        # Hydra names the job after the function's module.
        task.__module__, task.__name__ = function.__module__, function.__name__
        wrapped = hydra_main(config_path=str(config_dir()), config_name=name, version_base="1.3")(
            task
        )

        def main() -> Any:
            # With this set, Hydra hands exceptions on to us instead of printing them itself.
            wanted_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("0", "")
            os.environ["HYDRA_FULL_ERROR"] = "1"
            # conf/hydra/launcher changes defaults of a plugin's option, under its own name.
            warnings.filterwarnings("ignore", ".*against ConfigStore schema with the same name.*")
            try:
                words = arguments(sys.argv[1:]) if arguments is not None else sys.argv[1:]
                sys.argv[1:] = allow_new_keys(words, schema)
                result = around(wrapped) if around is not None else wrapped()
                sys.stdout.flush()  # while a reader that has gone can still be answered
                return result
            except (UserError, RankError) as error:
                return _fail(str(error), wanted_traceback)
            except (HydraException, OmegaConfBaseException) as error:
                return _fail(explain_composition_error(error, schema), wanted_traceback)
            except OSError as error:
                if isinstance(error, BrokenPipeError) and _reader_is_gone():
                    return _end_without_reader()
                # A folder that cannot be written to, a full disk: not a defect of the program.
                if error.filename is None:
                    raise
                reason = error.strerror or type(error).__name__
                return _fail(f"{error.filename}: {reason}", wanted_traceback)
            except Exception as error:
                lost = explain_lost_job(error)
                if lost is None:
                    raise
                return _fail(lost, wanted_traceback)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                sys.exit(130)

        return main

    return decorate


def _reader_is_gone() -> bool:
    """Return whether whoever read what is printed has stopped, as ``| head`` does."""
    poller = select.poll()
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or no file at all
            poller.register(stream.fileno(), select.POLLOUT)  # type: ignore[union-attr]
    return any(event & select.POLLERR for _, event in poller.poll(0))


def _end_without_reader() -> typing.NoReturn:
    """End as a program does that the signal SIGPIPE ends: without a word, and with its status."""
    # The interpreter would complain of what is still in the buffers.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
    sys.exit(128 + signal.SIGPIPE)


def _fail(message: str, with_traceback: bool) -> typing.NoReturn:
    if with_traceback:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def explain_composition_error(error: BaseException, schema: type) -> str:
    """Say in one message what is wrong with an override, and which names would be right."""
    texts = [str(link) for link in _chain(error)]
    text = "\n".join(texts)
    option = re.search(r"Could not find '([^']+)/([^/']+)'", text)
    if option:
        group, choice = option.groups()
        if (group, choice) == ("hydra/sweeper", "optuna"):
            return (
                "hydra/sweeper=optuna needs the package hydra-optuna-sweeper, which is not "
                "installed: pip install -c constraints.txt -e '.[optuna]'"
            )
        return f"{group}={choice}: there is no such option. {suggest(choice, _options(group))}"
    group_override = re.search(r"Could not override '([^']+)'.\nNo match in the defaults", text)
    if group_override:
        word = group_override.group(1)
        return f"'{word}' is no config group. {suggest(word, config_groups())}"
    key = re.search(r"full_key: (\S+)", text)
    if key and re.search(r"Key '.*' (is )?not in ", text):
        chosen = re.search(r"object_type=(\w+)", text)
        return _explain_misspelt_path(key.group(1), schema, chosen.group(1) if chosen else "")
    if key:
        reason = next(text for text in texts if "full_key:" in text).strip().splitlines()[0]
        return f"'{key.group(1)}': {reason}"
    return "\n".join(line for line in texts[0].splitlines() if line.strip())


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = [error]
    while (cause := links[-1].__cause__ or links[-1].__context__) is not None:
        if any(cause is link for link in links):  # an error that was raised again
            break
        links.append(cause)
    return links


def _explain_misspelt_path(full_key: str, schema: type, chosen: str = "") -> str:
    """Walk down ``full_key`` to the part that does not exist, and name the fields beside it.

    Args:
        full_key: Dotted key.
        schema: Dataclass of the root.
        chosen: Name of the dataclass that refused the key, which may derive from the declared one.
    """
    node: Any = schema
    for part in full_key.split("."):
        node = next((kind for kind in node.__subclasses__() if kind.__name__ == chosen), node)
        hints = typing.get_type_hints(node)
        if part not in hints:
            return _explain_unknown_key(full_key, node, part)
        node = _dataclass_in(hints[part])
        if node is None:
            break
    return f"'{full_key}' is not a key that can be set"


def _explain_unknown_key(full_key: str, node: type, part: str) -> str:
    valid = {field.name for field in dataclasses.fields(node)}
    if "." not in full_key:
        valid |= set(config_groups())
    return f"'{full_key}': there is no key '{part}' here. {suggest(part, valid)}"


def _dataclass_in(hint: Any) -> type | None:
    """Return the dataclass that a type hint is, or holds as `X | None`."""
    for item in (hint, *typing.get_args(hint)):
        if isinstance(item, type) and dataclasses.is_dataclass(item):
            return item
    return None


def _options(group: str) -> list[str]:
    """Return a group's options: our own files, and what Hydra and its plugins registered."""
    own = sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
    if own and not group.startswith("hydra/"):
        return own
    try:
        registered = ConfigStore.instance().list(group)
    except OSError:  # Hydra's own word for "no such group"
        return own
    return sorted({name.removesuffix(".yaml") for name in registered} | set(own))


def config_groups() -> list[str]:
    """Return the names of the config groups."""
    found = {path.name for path in config_dir().iterdir() if path.is_dir()}
    return sorted(found - {"hydra"})
