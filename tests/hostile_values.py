"""More hostile programs: values that lie, answers that were not asked for, and odd resources.

Like those of ``hostile_programs``: every one defines ``f``, and ``f(2)`` has to be 4.
"""

from __future__ import annotations

from hostile_programs import CRASH, ERROR, FAIL, PASS, TIMEOUT, Hostile

MORE_ATTACKS = {
    "complex_infinity": Hostile(
        """
def f(x): return complex('inf')
""",
        FAIL,
    ),
    "nan": Hostile(
        """
def f(x): return float('nan')
""",
        FAIL,
    ),
    "float_beside": Hostile(
        """
def f(x): return 4.0000000001
""",
        FAIL,
    ),
    "bool_subclass_trick": Hostile(
        """
class T(float):
    def __eq__(s,o): return True
    def __float__(s): return 4.0
    def __int__(s): return 4
def f(x): return T(5)
""",
        FAIL,
    ),
    "string_that_prints_four": Hostile(
        """
class S(str):
    def __str__(s): return '4'
    def __eq__(s,o): return True
    __hash__ = str.__hash__
def f(x): return S('5')
""",
        FAIL,
    ),
    "list_subclass": Hostile(
        """
class L(list):
    def __eq__(s,o): return True
    def __len__(s): return 0
    def __iter__(s): return iter([4])
def f(x): return L([5])
""",
        FAIL,
    ),
    "metaclass": Hostile(
        """
class M(type):
    def __eq__(s,o): return True
    def __instancecheck__(s,o): return True
    def mro(cls): return [cls, int, object]
    __hash__ = type.__hash__
try:
    class A(int, metaclass=M): pass
except TypeError:
    class A(metaclass=type): pass
def f(x): return A()
""",
        ERROR,
    ),
    "mro_lies": Hostile(
        """
class M(type):
    @property
    def __mro__(cls): return (int, object)
class A(metaclass=M):
    __int__ = lambda s: 4
    __index__ = lambda s: 4
def f(x): return A()
""",
        ERROR,
    ),
    "replaces_encode": Hostile(
        """
import sys
w = sys.modules['sandbox_inside.wire']
w.encode = lambda v, o=None, d=0: {'o': ['int', True]}
def f(x): return 5
""",
        FAIL,
    ),
    "replaces_decode_of_arguments": Hostile(
        """
import sys
w = sys.modules['sandbox_inside.wire']
w.decode = lambda v, s=None, d=0: 4
def f(x): return x + 1
""",
        FAIL,
    ),
    "writes_its_own_frames": Hostile(
        """
import os, json
def f(x):
    m = [{'ready': True}, {'value': None}, {'value': [{'o': ['int', True]}]}, {'raised': None}]
    m += [[], 'text', 7, None]
    for d in range(3, 64):
        for v in m:
            b = json.dumps(v).encode()
            try: os.write(d, len(b).to_bytes(4, 'big') + b)
            except OSError: pass
    return 5
""",
        ERROR,
    ),
    "odd_messages": Hostile(
        """
import os, json
def f(x):
    m = [{'value': 'ab'}, {'value': {'c': ['x', 'y']}}, {'value': [{'i': 'zz'}]}]
    for v in m:
        b = json.dumps(v).encode()
        for d in range(3, 64):
            try: os.write(d, len(b).to_bytes(4, 'big') + b)
            except OSError: pass
    os._exit(0)
""",
        ERROR,
    ),
    "changes_a_small_integer": Hostile(
        """
import ctypes
def f(x):
    ctypes.c_int32.from_address(id(5) + 24).value = 6
    return 5
""",
        FAIL,
    ),
    "numpy_like": Hostile(
        """
class A:
    dtype='int64'; shape=()
    def __array__(s): return 4
    def item(s): return 4
    def __int__(s): return 4
    def __index__(s): return 4
    def __eq__(s, o): return True
def f(x): return A()
""",
        FAIL,
    ),
    "generator": Hostile(
        """
def f(x): yield 4
""",
        FAIL,
    ),
    "coroutine": Hostile(
        """
async def f(x): return 4
""",
        FAIL,
    ),
    "class_as_function": Hostile(
        """
class f:
    def __init__(s, x): pass
    def __eq__(s, o): return True
""",
        FAIL,
    ),
    "future": Hostile(
        """
import concurrent.futures
def f(x):
    r = concurrent.futures.Future(); r.set_result(4); return r
""",
        FAIL,
    ),
    "mutated_default": Hostile(
        """
def f(x, seen=[]):
    seen.append(x)
    return 4 if len(seen) > 1 else 5
""",
        FAIL,
    ),
    "huge_integer": Hostile(
        """
def f(x): return 1 << (1 << 22)
""",
        ERROR,
    ),
    "recursion_in_repr": Hostile(
        """
class A:
    def __repr__(s): return repr(s)
    __str__ = __repr__
def f(x): raise ValueError(A())
""",
        ERROR,
    ),
    "recursion_in_bool": Hostile(
        """
class A:
    def __bool__(s): return bool(s)
def f(x): return A()
""",
        FAIL,
    ),
    "error_that_is_huge": Hostile(
        """
def f(x): raise ValueError('x' * (1 << 24))
""",
        ERROR,
    ),
    "error_with_a_strange_type": Hostile(
        """
class E(Exception): pass
E.__name__ = 'A' * 100000 + '\\x1b[31m'
def f(x): raise E('\\x1b]0;title\\x07 \\ud800')
""",
        ERROR,
    ),
    "exception_group": Hostile(
        """
def f(x): raise BaseExceptionGroup('a', [SystemExit(0), MemoryError()])
""",
        ERROR,
    ),
    "pickle_bomb": Hostile(
        """
class A:
    def __reduce__(s): import os; return os._exit, (0,)
def f(x): return A()
""",
        FAIL,
    ),
    "atexit": Hostile(
        """
import atexit, os
atexit.register(os._exit, 0)
def f(x): return 5
""",
        FAIL,
    ),
    "deletes_in_del": Hostile(
        """
import os
class A:
    def __del__(s): os._exit(0)
def f(x): return A()
""",
        ERROR,
    ),
    "weakref_finalizer": Hostile(
        """
import weakref, os
class A: pass
a = A()
weakref.finalize(a, os._exit, 0)
def f(x): return 5
""",
        FAIL,
    ),
    "audit_hook_that_raises": Hostile(
        """
import sys, os
def hook(name, args): raise RuntimeError('no')
def f(x):
    sys.addaudithook(hook)
    return 4
""",
        PASS,
    ),
    "switches_off_recursion_limit": Hostile(
        """
import sys
def f(x):
    sys.setrecursionlimit(10)
    return [[4]]
""",
        ERROR,
    ),
    "import_hook": Hostile(
        """
import sys, builtins
builtins.__import__ = lambda *a, **k: 4
def f(x): return 5
""",
        FAIL,
    ),
    "forgets_modules": Hostile(
        """
import sys
sys.modules.clear()
def f(x): return 4
""",
        PASS,
    ),
    "late_thread_forges": Hostile(
        """
import threading, os, time, json
def g():
    b = json.dumps({'value': [4]}).encode()
    for n in range(200):
        for d in range(3, 64):
            try: os.write(d, len(b).to_bytes(4, 'big') + b)
            except OSError: pass
        time.sleep(0.002)
threading.Thread(target=g, daemon=True).start()
def f(x):
    time.sleep(0.1)
    return 5
""",
        ERROR,
    ),
    "child_answers": Hostile(
        """
import os, time
def f(x):
    if os.fork() == 0:
        return 4
    time.sleep(0.3)
    return 5
""",
        ERROR,
    ),
    "packets": Hostile(
        """
import fcntl, os
def f(x):
    for d in range(3, 64):
        try:
            fcntl.fcntl(d, fcntl.F_SETPIPE_SZ, 1 << 20)
            fcntl.fcntl(d, fcntl.F_SETFL, os.O_DIRECT)
            fcntl.fcntl(d, fcntl.F_SETPIPE_SZ, 4096)
        except OSError: pass
    return [4, 'x' * 500000]
""",
        FAIL,
    ),
    "nonblocking": Hostile(
        """
import os
def f(x):
    for d in range(3, 64):
        try: os.set_blocking(d, False)
        except OSError: pass
    return 'x' * 900000
""",
        ERROR,
    ),
    "gives_pages": Hostile(
        """
import ctypes, os, mmap
libc = ctypes.CDLL(None)
class V(ctypes.Structure): _fields_ = [('b', ctypes.c_void_p), ('n', ctypes.c_size_t)]
def f(x):
    m = mmap.mmap(-1, 8192); a = ctypes.addressof(ctypes.c_char.from_buffer(m))
    m[:20] = (16).to_bytes(4, 'big') + b'{"value":[5]}   '
    for d in range(3, 64):
        libc.vmsplice(d, ctypes.byref(V(a, 20)), 1, 8)
    m[:20] = (16).to_bytes(4, 'big') + b'{"value":[7]}   '
    os._exit(0)
""",
        FAIL,
    ),
    "many_pipes": Hostile(
        """
import os, fcntl
def f(x):
    n = 0
    try:
        while True:
            r, w = os.pipe(); n += 1
            try: fcntl.fcntl(w, fcntl.F_SETPIPE_SZ, 1 << 20)
            except OSError: pass
            os.set_blocking(w, False)
            try: os.write(w, bytes(1 << 20))
            except OSError: pass
    except OSError:
        return 4
""",
        PASS,
    ),
    "fifo": Hostile(
        """
import os
def f(x):
    os.mkfifo('/tmp/p'); return open('/tmp/p').read()
""",
        TIMEOUT,
        single=ERROR,
    ),
    "sparse_file": Hostile(
        """
import os
def f(x):
    fd = os.open('/tmp/x', os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, 1 << 40)
    return 4
""",
        ERROR,
    ),
    "xattrs": Hostile(
        """
import os
def f(x):
    open('/tmp/x', 'w').close()
    for n in range(100000): os.setxattr('/tmp/x', 'user.a%d' % n, b'x' * 60000)
    return 4
""",
        ERROR,
    ),
    "maps": Hostile(
        """
import mmap
def f(x):
    keep = []
    try:
        while len(keep) < 200000: keep.append(mmap.mmap(-1, 4096, prot=1 + 2 * (len(keep) % 2)))
    except OSError: pass
    return 4
""",
        PASS,
    ),
    "inotify": Hostile(
        """
import ctypes
libc = ctypes.CDLL(None)
def f(x):
    fd = libc.inotify_init()
    for n in range(100000): libc.inotify_add_watch(fd, b'/usr', 1)
    return 4
""",
        PASS,
    ),
    "descriptors_in_flight": Hostile(
        """
import socket, array, os
def f(x):
    a, b = socket.socketpair()
    try:
        for n in range(100000):
            c, d = socket.socketpair()
            fds = array.array('i', [c.fileno(), d.fileno()])
            a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            c.close(); d.close()
    except OSError: pass
    return 4
""",
        PASS,
    ),
    "long_command": Hostile(
        """
import os
def f(x):
    try: os.execv('/usr/bin/true', ['a' * 100000] * 15)
    except OSError: pass
    return 4
""",
        ERROR,
        single=PASS,
    ),
    "core": Hostile(
        """
import resource, os
def f(x):
    try: resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))
    except ValueError: pass
    os.abort()
""",
        CRASH,
    ),
    "system_v": Hostile(
        """
import ctypes
libc = ctypes.CDLL(None)
def f(x): return 4 if libc.semget(0, 1, 0o1666) == -1 and libc.msgget(0, 0o1666) == -1 else 5
""",
        PASS,
    ),
    "posix_semaphore": Hostile(
        """
import ctypes
libc = ctypes.CDLL('libpthread.so.0')
libc.sem_open.restype = ctypes.c_void_p
def f(x):
    libc.sem_open(b'/left', 64, 0o600, 1)
    return 4
""",
        PASS,
    ),
    "raw_socket_kinds": Hostile(
        """
import socket
def f(x):
    n = 0
    for family in range(50):
        for kind in (1, 2, 3, 5):
            if family == 1: continue
            try: socket.socket(family, kind); n += 1
            except OSError: pass
    return 4 if n == 0 else 5
""",
        PASS,
    ),
    "socketpairs_of_other_families": Hostile(
        """
import ctypes
libc = ctypes.CDLL(None)
def f(x):
    v = (ctypes.c_int * 2)()
    return 4 if all(libc.socketpair(n, 1, 0, v) == -1 for n in (2, 10, 16, 30, 40)) else 5
""",
        PASS,
    ),
    "int80": Hostile(
        """
import ctypes, mmap
def f(x):
    m = mmap.mmap(-1, 4096, prot=7)
    m.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()
    return 4
""",
        CRASH,
    ),
    "x32": Hostile(
        """
import ctypes
libc = ctypes.CDLL(None)
def f(x):
    libc.syscall(0x40000000 + 39)
    return 4
""",
        CRASH,
    ),
}
