"""An RTSP server for tests: GStreamer's, run by the system's Python, which has its bindings.

    python3 rtsp_server.py CLIP SHARE

Plays CLIP, an MP4 of H.264 and AAC, at rtsp://127.0.0.1:PORT/clip to each who asks, and loses SHARE (0 to 1) of the
picture's RTP packets. PORT is the first line that it prints.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402  (only after the versions were asked for)

Gst.init(None)
clip, share = sys.argv[1:]
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( filesrc location={clip} ! qtdemux name=clip"
    f" clip.video_0 ! queue ! h264parse ! rtph264pay config-interval=-1 pt=96"
    f" ! identity drop-probability={share} name=pay0"
    f" clip.audio_0 ! queue ! aacparse ! rtpmp4gpay pt=97 name=pay1 )"
)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
server.get_mount_points().add_factory("/clip", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
