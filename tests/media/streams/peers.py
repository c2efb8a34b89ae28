"""Real peers on loopback: nginx with its RTMP module, and ffmpeg as the one who publishes or plays."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gtasr_video.media.streams.child import program

NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else None)
_RTMP_MODULE, STREAM_MODULE = (Path(f"/usr/lib/nginx/modules/ngx_{name}_module.so") for name in ("rtmp", "stream"))
_CONFIG = """
daemon off; master_process off; pid nginx.pid; error_log error.log;
{modules}
events {{ }}
rtmp {{ server {{
    listen 127.0.0.1:{port};
    chunk_size 4096;
    max_message 32M;
    application live {{ live on; wait_key on; idle_streams off; }}
}} }}
"""


def needed(there: bool, what: str) -> None:
    """Skip where a server is not there, but fail in CI, which installs it; `what`: its Debian packages."""
    if there:
        return
    if os.environ.get("GTASR_REQUIRE_PEERS"):
        pytest.fail(f"a server is missing (Debian: {what})")
    pytest.skip(f"a server is missing (Debian: {what})")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children() -> list[str]:
    """Return the command lines of the child processes of this one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything; state and parent follow it.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(stat.with_name("cmdline").read_text().replace("\0", " "))
    return found


class Nginx:
    """An RTMP server, started and ended by its process; `more` gives what its configuration has besides."""

    def __init__(self, folder: Path, more: Callable[[int], str] = lambda port: "") -> None:
        self.port = free_port()
        self._folder = folder
        self._folder.mkdir(exist_ok=True)
        # Modules have to be named before all else.
        modules = "".join(f"load_module {path};" for path in (_RTMP_MODULE, STREAM_MODULE) if path.exists())
        config = _CONFIG.format(modules=modules, port=self.port) + more(self.port)
        (folder / "nginx.conf").write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"rtmp://127.0.0.1:{self.port}/live"

    def start(self) -> None:
        assert NGINX is not None
        command = [NGINX, "-p", str(self._folder), "-c", "nginx.conf", "-e", "error.log"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not is_listening(self.port):
            assert self._process.poll() is None, (self._folder / "error.log").read_text()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def is_listening(port: int) -> bool:
    """Return whether someone accepts connections at `port`; for servers that take more than one."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def wait_for_listener(port: int, seconds: float = 20) -> None:
    """Return when someone listens at the TCP port `port`; it is not asked, as some listen for one connection alone."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        if any(local.endswith(f":{port:04X}") and state == "0A" for _, local, _, state, *_ in sockets):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens at port {port}")


@contextmanager
def nginx(folder: Path, more: Callable[[int], str] = lambda port: "") -> Iterator[Nginx]:
    needed(bool(NGINX) and _RTMP_MODULE.exists(), "nginx, libnginx-mod-rtmp")
    server = Nginx(folder, more)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def web(folder: Path) -> Iterator[str]:
    """Serve `folder` over HTTP; gives its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Publisher:
    """ffmpeg sending `clip` to `url`, tried again until it has been taken, `times` times in all."""

    def __init__(
        self, clip: Path, url: str, form: str, *, pace: float = 1, times: int = 1, options: tuple[str, ...] = ()
    ) -> None:
        reading = ["-readrate", str(pace)] if pace else []
        self._command = [program(), "-v", "error", "-nostdin", *reading, *options, "-i", str(clip)]
        transport = ["-rtsp_transport", "tcp"] if form == "rtsp" else []
        self._command += ["-map", "0", "-c", "copy", "-f", form, *transport, "-flush_packets", "1", url]
        self._times = times
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.taken = 0
        self._thread = threading.Thread(target=self._publish)

    def _publish(self) -> None:
        while not self._ended.is_set() and self.taken < self._times:
            with self._lock:
                if self._ended.is_set():
                    return
                process = self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
            if process.wait() == 0:
                self.taken += 1
            else:
                self._ended.wait(0.1)

    def freeze(self) -> None:
        """Let it fall silent without closing anything."""
        with self._lock:
            if self._process is not None:
                os.kill(self._process.pid, 19)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with self._lock:
            if self._process is not None:
                self._process.kill()
        self._thread.join()
