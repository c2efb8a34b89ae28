"""Both lanes give every frame, in order, unchanged; the CUDA lane's ordering is proven on a simulated device."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch

from gtasr_video.device import Device
from gtasr_video.errors import ModelError
from gtasr_video.frames import Frame, PixelLayout, VideoSpec
from gtasr_video.media import MemoryReader, MemoryWriter
from gtasr_video.runtime import session
from gtasr_video.runtime.channels import Channel, Scope
from gtasr_video.runtime.lanes import CpuLane, Lane
from gtasr_video.runtime.lanes.cuda import CudaLane
from gtasr_video.runtime.report import Report, Stages
from gtasr_video.runtime.upscaler import Upscaler
from tests import fakes
from tests.runtime.simulated import DeviceError, SimulatedDevice

STREAMS = ("copy in", "compute", "copy out")
SPEC = fakes.spec()
ORDERS = list(itertools.permutations(STREAMS))


def run(
    device: SimulatedDevice,
    monkeypatch: pytest.MonkeyPatch,
    model: fakes.Nearest | fakes.Fragile,
    count: int = 30,
    *,
    slots: int = 3,
    of: VideoSpec | None = None,
    writer: MemoryWriter | None = None,
    frames: Iterable[Frame] | None = None,
    on: Device | str = "cpu",
) -> tuple[MemoryWriter, Report]:
    """Run a whole session over the simulated device."""

    def open_lane(
        _: torch.device, scope: Scope, stages: Stages, source: VideoSpec, output: VideoSpec, staged: int, pending: int
    ) -> Lane:
        return CudaLane(device, scope, stages, source, output, pending, staged)

    monkeypatch.setattr(session, "open_lane", open_lane)
    of = of or fakes.spec()
    reader = MemoryReader(list(fakes.frames(of, count)) if frames is None else frames, of)
    writer = writer or Copies(of.scaled(model.facts.scale))
    report = session.run(reader, Upscaler(model, device=on), writer, queue=slots)
    return writer, report


class Copies(MemoryWriter):
    """Keeps copies, as an encoder would: the planes it is lent lie in a slot that is used again."""

    def write(self, frame: Frame) -> None:
        super().write(Frame(tuple(p.clone() for p in frame.planes), frame.pts, frame.duration, frame.cut))


def expected(count: int, scale: int, of: VideoSpec | None = None) -> list[Frame]:
    of = of or fakes.spec()
    return list(Upscaler(fakes.Nearest(scale), device="cpu")(MemoryReader(list(fakes.frames(of, count)), of)))


def assert_equal(got: Sequence[Frame], wanted: Sequence[Frame]) -> None:
    assert [(f.pts, f.duration, f.cut) for f in got] == [(f.pts, f.duration, f.cut) for f in wanted]
    for one, other in zip(got, wanted, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.planes, other.planes, strict=True)), one


@pytest.mark.parametrize("order", ORDERS, ids=[" > ".join(o) for o in ORDERS])
@pytest.mark.parametrize("slots", [1, 3])
def test_every_frame_arrives_whole_and_in_order_however_late_the_device_is(
    order: tuple[str, ...], slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, _ = run(SimulatedDevice(order), monkeypatch, fakes.Nearest(2), slots=slots)
    assert_equal(writer.frames, expected(30, 2))


@pytest.mark.parametrize("seed", range(8))
def test_every_frame_arrives_whole_and_in_order_at_random(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ten_bit = fakes.spec(18, 10, PixelLayout("yuv444p10le", 10, 0, 0))
    writer, _ = run(SimulatedDevice(seed=seed), monkeypatch, fakes.Nearest(3), of=ten_bit)
    assert_equal(writer.frames, expected(30, 3, ten_bit))


def test_a_caller_in_inference_mode_gets_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode is of one thread: memory made in it could not be written to by those that decode."""
    with torch.inference_mode():
        writer, _ = run(SimulatedDevice(STREAMS), monkeypatch, fakes.Nearest(2))
    assert_equal(writer.frames, expected(30, 2))


def test_a_frame_that_is_given_up_gives_its_slot_back() -> None:
    with Scope() as scope, CudaLane(SimulatedDevice(STREAMS), scope, Stages(), SPEC, SPEC, 2) as lane:
        for frame in fakes.frames(SPEC, 9):
            lane.discard(lane.stage(frame))
        upscaler, last = Upscaler(fakes.Nearest(1), device="cpu"), next(fakes.frames(SPEC, 1, first_pts=1000))
        upscaler.start(SPEC)
        with lane.collect(lane.download(lane.compute(upscaler, lane.upload(lane.stage(last))))) as frame:
            assert_equal([frame], [last])


class Unordered(SimulatedDevice):
    """Forgets what one stream was told to wait for: the tests above must notice."""

    def __init__(self, priority: Sequence[str], forgetful: str) -> None:
        super().__init__(priority)
        self._forgetful = forgetful

    def add(self, stream: object, kind: str, item: object) -> None:
        if not (kind == "wait" and stream.name == self._forgetful):
            super().add(stream, kind, item)


@pytest.mark.parametrize(
    ("forgetful", "order"),
    [
        ("compute", ("compute", "copy out", "copy in")),  # computes on a frame that is not there yet
        ("copy out", ("copy out", "copy in", "compute")),  # fetches a result that is not there yet
    ],
)
def test_the_simulation_catches_a_missing_event(
    forgetful: str, order: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Wrong pictures, an event that was not reached, or a flag of NaN read before it was written.
    with pytest.raises((AssertionError, ModelError)):
        writer, _ = run(Unordered(order, forgetful), monkeypatch, fakes.Nearest(2))
        assert_equal(writer.frames, expected(30, 2))


@pytest.mark.parametrize("waits", [True, False])
def test_frames_that_a_decoder_left_on_the_device_stay_there(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    order = ("copy in", "compute", "copy out", "decoder")
    device = SimulatedDevice(order) if waits else Unordered(order, "copy in")
    source = list(fakes.frames(fakes.spec(), 30))

    def decoding() -> Iterator[Frame]:
        for frame in source:
            yield replace(frame, planes=device.decoded(frame.planes))

    writer, _ = run(device, monkeypatch, fakes.Nearest(2), frames=decoding())
    if waits:
        assert_equal(writer.frames, expected(30, 2))
    else:
        assert not torch.equal(writer.frames[0].planes[0], expected(30, 2)[0].planes[0])


def test_state_goes_from_frame_to_frame_and_is_reset_at_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    of = fakes.spec()
    frames = [fakes.picture(of, n, 40 * n, 40, cut=n in (0, 7)) for n in range(12)]
    model = fakes.Remembers(1)
    run(SimulatedDevice(ORDERS[3]), monkeypatch, model, frames=frames)
    assert model.ages == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4]


def test_memory_is_allocated_once_and_is_what_the_slots_say(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimulatedDevice(ORDERS[0])
    run(device, monkeypatch, fakes.Nearest(2), count=50, slots=3)
    frame_in, frame_out = session.frame_bytes(fakes.spec()), session.frame_bytes(fakes.spec().scaled(2))
    flag = 1
    assert device.host_bytes == 3 * (frame_in + flag) + 3 * (frame_out + flag)
    assert device.device_bytes == 4 * (frame_in + flag) + 2 * (frame_out + flag)


def test_a_slow_encoder_holds_the_host_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more work is ever queued than there are slots to land in, and one frame in the hands of the host."""
    device = SimulatedDevice(ORDERS[0])
    released = threading.Event()

    class Slow(Copies):
        def write(self, frame: Frame) -> None:
            released.wait()
            super().write(frame)

    landing: list[Channel] = []
    original = CudaLane.download

    def download(self: CudaLane, computed: object) -> object:
        if not landing:
            landing.append(self._landing)
        if len(self._landing) == 0:
            released.set()  # only once the ring has run empty may the encoder go on
        return original(self, computed)

    monkeypatch.setattr(CudaLane, "download", download)
    writer, _ = run(device, monkeypatch, fakes.Nearest(1), slots=2, writer=Slow(fakes.spec()))
    assert len(writer.frames) == 30
    assert device.longest_queue <= 3


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("at", [1, 5, 30])
def test_a_failure_on_the_device_ends_the_run(stream: str, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimulatedDevice(ORDERS[1], fail_on=stream, fail_at=at)
    with pytest.raises(DeviceError, match=f"broken in {stream}"):
        run(device, monkeypatch, fakes.Nearest(2))
    assert_no_threads()


@pytest.mark.parametrize("number", [1, 9])
def test_nan_is_reported_although_it_is_learned_late(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="NaN") as caught:
        run(SimulatedDevice(ORDERS[2]), monkeypatch, fakes.NotANumber(number))
    assert caught.value.__notes__ == [f"while encoding frame {number}"]
    assert_no_threads()


BF16 = Device(torch.device("cpu"), torch.bfloat16, "for a test")
MOVING = [fakes.picture(fakes.spec(), n, 40 * n, 40, cut=n in (0, 12)) for n in range(20)]


def unbroken() -> list[Frame]:
    return list(Upscaler(fakes.Fragile(), device=BF16)(MOVING, spec=fakes.spec()))


@pytest.mark.parametrize("ages", [(0,), (4,), (3, 4, 7), (11,)], ids=str)
@pytest.mark.parametrize("order", [ORDERS[0], ORDERS[3], None], ids=str)
@pytest.mark.parametrize("slots", [1, 4])
def test_a_broken_frame_is_made_again_and_all_behind_it_from_its_state(
    ages: tuple[int, ...], order: tuple[str, ...] | None, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, model = SimulatedDevice(order, seed=len(ages)), fakes.Fragile(ages)
    writer, report = run(device, monkeypatch, model, frames=MOVING, slots=slots, on=BF16)
    assert_equal(writer.frames, unbroken())
    # Ages 0 to 7 come by again after the cut at frame 12.
    assert report.frames_redone == sum(1 + (age < 8) for age in ages)
    assert_no_threads()


def test_a_frame_that_float32_cannot_make_either_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fakes.Fragile((5,), cure=False)
    with pytest.raises(ModelError, match="in float32 too") as caught:
        run(SimulatedDevice(ORDERS[2]), monkeypatch, model, frames=MOVING, on=BF16)
    assert caught.value.__notes__ == ["while encoding frame 6"]
    assert_no_threads()


def test_an_error_in_the_encoder_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Copies):
        def write(self, frame: Frame) -> None:
            if len(self.frames) == 4:
                raise OSError(28, "No space left on device")
            super().write(frame)

    with pytest.raises(OSError, match="No space") as caught:
        run(SimulatedDevice(ORDERS[4]), monkeypatch, fakes.Nearest(1), writer=Full(fakes.spec()))
    assert caught.value.__notes__ == ["while encoding frame 5"]
    assert_no_threads()


def test_device_time_is_counted_as_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    _, report = run(SimulatedDevice(ORDERS[0]), monkeypatch, fakes.Nearest(1), count=20)
    for stage in ("upload", "compute", "download"):
        assert report.stages[stage]["busy_s"] >= 20 * 0.001


def test_the_cpu_lane_hands_the_frame_through() -> None:
    stages = Stages()
    frame = next(fakes.frames(fakes.spec(), 1))
    upscaler = Upscaler(fakes.Nearest(1), device="cpu")
    upscaler.start(fakes.spec())
    with CpuLane(stages) as lane:
        assert lane.upload(lane.stage(frame)) is frame
        with lane.collect(lane.download(lane.compute(upscaler, frame))) as out:
            assert_equal([out], [frame])
    assert stages.compute.busy_s > 0


def assert_no_threads() -> None:
    left = [t.name for t in threading.enumerate() if t.name in ("decode", "encode")]
    assert left == []


def test_both_lanes_have_the_same_methods() -> None:
    methods: list[set[str]] = []
    for lane in (CpuLane, CudaLane):
        methods.append({name for name in vars(lane) if not name.startswith("_")})
    assert methods[0] == methods[1] == {"stage", "discard", "upload", "compute", "download", "collect"}
