"""Runs a program in its own process and answers calls of its functions."""

import json
import os
import sys
import types

import wire

MODULE_NAME = "solution"


def _load(code):
    """Run the program as a module; return it, or the frame that says why it could not be run."""
    try:
        compiled = compile(code, "<program>", "exec")
    except (SyntaxError, ValueError, OverflowError) as error:
        return None, ["syntax", _describe(error)]
    except (MemoryError, RecursionError):
        return None, ["syntax", "too deeply nested"]
    module = types.ModuleType(MODULE_NAME)
    sys.modules[MODULE_NAME] = module
    try:
        exec(compiled, module.__dict__)
    except MemoryError:
        return None, ["memory"]
    except BaseException as error:
        return None, ["error", *_describe_parts(error)]
    return module, ["loaded"]


def _describe_parts(error):
    try:
        return type(error).__name__, str(error)[:300]
    except BaseException:
        return type(error).__name__, ""


def _describe(error):
    name, text = _describe_parts(error)
    return f"{name}: {text}" if text else name


def _call(module, name, arguments, keywords):
    """Return the frame that a call ends in."""
    if name not in module.__dict__:
        return ["absent", name]
    try:
        value = module.__dict__[name](*wire.decode(arguments), **wire.decode(keywords))
        return ["value", wire.encode(value)]
    except MemoryError:
        return ["memory"]
    except BaseException as error:
        return ["error", *_describe_parts(error)]


def answer_calls(request, writer):
    """Load the program, call its entry point with each set of arguments, and write the frames."""
    write = os.write

    def send(frame):
        data = json.dumps(frame).encode() + b"\n"
        while data:
            data = data[write(writer, data) :]

    module, frame = _load(request["code"])
    send(frame)
    if module is None:
        return
    for arguments, keywords in request["calls"]:
        send(_call(module, request["entry"], arguments, keywords))


def serve(request, connection):
    """Load the program, and answer what is asked for over ``connection`` until it ends."""
    stream = connection.makefile("rwb")

    def send(frame):
        stream.write(json.dumps(frame).encode() + b"\n")
        stream.flush()

    module, frame = _load(request["code"])
    if module is not None:
        frame.append([n for n, v in module.__dict__.items() if callable(v) and n[:2] != "__"])
    send(frame)
    if module is None:
        return
    for line in stream:
        send(_call(module, *json.loads(line)))
