"""One visitor: offers that are refused, settings, statistics, the heartbeat, and places that come free again."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from livetoon.errors import CameraError, UsageError
from streamer import session
from streamer.session import Transport, changed, check_offer, in_order, with_start_bitrate
from streamer.visitors import FullError, Visitors
from tests.streamer.visiting import TRACKS, GreyCamera, Inverting, Settings, Visitor, until

GROUPS = ["young-women", "kids"]
VIDEO = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=sendrecv\r\n"
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
HEAD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def house(most: int = 1, process: Inverting | None = None, codec: str = "h264") -> Visitors:
    return Visitors(lambda: process or Inverting(), Settings(), {"ink": GROUPS}, Transport(codec), most)


async def come_in(visitors: Visitors, camera: GreyCamera | None = None) -> Visitor:
    visitor = Visitor(camera)
    await visitor.accept(await visitors.welcome(await visitor.offer()))
    await until(lambda: visitor.channel.readyState == "open")
    return visitor


async def message(visitor: Visitor, kind: str, **fields) -> dict:
    """The next message of this kind whose fields are these."""
    while True:
        got = json.loads(await visitor.messages.get())
        if got["type"] == kind and all(got[name] == value for name, value in fields.items()):
            return got


@pytest.mark.parametrize(
    "sdp",
    [
        "",
        "hello",
        "v=0",
        HEAD,
        HEAD + VIDEO,
        HEAD + DATA,
        HEAD + VIDEO + VIDEO + DATA,
        HEAD + VIDEO + DATA + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
        HEAD + VIDEO.replace("sendrecv", "recvonly") + DATA,
        HEAD + VIDEO.replace("sendrecv", "inactive") + DATA,
    ],
)
def test_an_offer_of_another_kind_is_refused_in_a_sentence(sdp):
    with pytest.raises(CameraError, match=r"^The offer.*\.$"):
        check_offer(sdp)


def test_a_right_offer_passes():
    check_offer(HEAD + VIDEO + DATA)


@pytest.mark.parametrize("sdp", [HEAD + VIDEO + DATA, HEAD + VIDEO + "a=fmtp:nonsense\r\na=ssrc:x\r\n" + DATA])
def test_an_offer_that_cannot_be_read_gives_its_place_back(sdp):
    async def scene():
        visitors = house(most=1)
        for _ in range(3):
            with pytest.raises(CameraError, match=r"could not be read"):
                await visitors.welcome(sdp)
        visitor = await come_in(visitors)
        await visitor.close()

    run(scene())


def test_a_visitor_gets_cartoons_and_reports():
    async def scene():
        visitors = house()
        visitor = await come_in(visitors, GreyCamera(size=(160, 120)))
        frame = await visitor.frames.get()
        report = await message(visitor, "stats", size=[160, 120])
        visitor.channel.send(json.dumps({"type": "ping", "page": 12.5}))
        pong = await message(visitor, "pong")
        await visitor.close()
        await until(lambda: visitors._taken == 0)
        return frame, report, pong

    frame, report, pong = run(scene())
    # The camera shows grey of 20 and a little more, so its negative is bright.
    assert frame.to_ndarray(format="gray").mean() > 100
    assert report["sent"] > 0 and report["faces"] == 1 and report["trouble"] is None
    assert report["tracks"] == TRACKS
    assert list(report["stages"])[-2:] == ["wait for encoder", "encode"]
    assert pong["page"] == 12.5 and pong["server"] > 0


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_the_codec_that_was_chosen_is_used(codec):
    async def scene():
        visitors = house(codec=codec)
        visitor = Visitor()
        answer = await visitors.welcome(await visitor.offer())
        await visitors.close()
        await visitor.close()
        return answer

    answer = run(scene())
    video = answer[answer.index("m=video") :]
    first = video.split("\r\n")[0].split(" ")[3]
    assert f"a=rtpmap:{first} {codec.upper()}/90000" in video
    assert f"a=fmtp:{first} " in video and "x-google-start-bitrate=2000" in video


def test_a_style_is_chosen_with_groups_of_its_own():
    styles = {"ink": GROUPS, "webtoon": ["grown-ups"]}

    async def scene():
        work = Inverting()
        visitors = Visitors(lambda: work, Settings(), styles, Transport(), 1)
        visitor = await come_in(visitors)

        async def said(**fields) -> str:
            visitor.channel.send(json.dumps({"type": "settings", **fields}))
            return (await message(visitor, "refused"))["sentence"]

        refused = [await said(style="oil"), await said(group="grown-ups"), await said(style="webtoon", group="kids")]
        visitor.channel.send(json.dumps({"type": "settings", "faces": {"3": "kids"}}))
        # What was said of face 3 is not said of whoever is face 3 in the other style.
        visitor.channel.send(json.dumps({"type": "settings", "style": "webtoon", "group": "grown-ups"}))
        await until(lambda: work.settings and work.settings[-1] == Settings(style="webtoon", group="grown-ups"))
        refused.append(await said(group="kids"))
        await visitor.close()
        await until(lambda: visitors._taken == 0)
        return refused

    assert run(scene()) == [
        "There is no style 'oil'; there are ink, webtoon.",
        "There is no group 'grown-ups'; there are auto, young-women, kids.",
        "There is no group 'kids'; there are auto, grown-ups.",
        "There is no group 'kids'; there are auto, grown-ups.",
    ]


def test_settings_are_obeyed_and_wrong_ones_refused_in_a_sentence():
    async def scene():
        work = Inverting()
        visitors = house(process=work)
        visitor = await come_in(visitors)
        await visitor.frames.get()
        wrong = [
            "no json",
            "[]",
            "null",
            json.dumps({"no": "type"}),
            json.dumps({"type": "nonsense"}),
            json.dumps({"type": "settings", "colour": "red"}),
            json.dumps({"type": "settings", "strength": 7}),
            json.dumps({"type": "settings", "strength": "much"}),
            json.dumps({"type": "settings", "group": "dogs"}),
            json.dumps({"type": "settings", "group": ["kids"]}),
            json.dumps({"type": "settings", "faces": {"3": "dogs"}}),
            "[" * 3000,
            "x" * 5000,
            b"\x00\x01",
        ]
        sentences = []
        for text in wrong:
            visitor.channel.send(text)
            sentences.append((await message(visitor, "refused"))["sentence"])
        assert work.settings[-1] == Settings()
        visitor.channel.send(json.dumps({"type": "settings", "group": "kids", "strength": 0.5}))
        await until(lambda: work.settings[-1] == Settings(group="kids", strength=0.5))
        await visitor.close()
        return sentences

    for sentence in run(scene()):
        assert sentence[0].isupper() or sentence.startswith("strength")
        assert "Traceback" not in sentence


def test_a_group_for_one_face_reaches_the_pipeline_and_stays_when_others_settings_change():
    async def scene():
        work = Inverting()
        visitor = await come_in(house(process=work))
        await visitor.frames.get()
        visitor.channel.send(json.dumps({"type": "settings", "faces": {"3": "kids", "4": "auto"}}))
        await until(lambda: work.settings[-1].faces == {"3": "kids", "4": "auto"})
        visitor.channel.send(json.dumps({"type": "settings", "strength": 0.5}))
        await until(lambda: work.settings[-1] == Settings(strength=0.5, faces={"3": "kids", "4": "auto"}))
        visitor.channel.send(json.dumps({"type": "settings", "faces": {}}))
        await until(lambda: work.settings[-1] == Settings(strength=0.5))
        await visitor.close()

    run(scene())


def test_a_second_visitor_gets_a_sentence_and_the_place_when_it_is_free():
    async def scene():
        visitors = house(most=1)
        first = await come_in(visitors)
        second = Visitor()
        offer = await second.offer()
        with pytest.raises(FullError, match=r"The one place is taken\."):
            await visitors.welcome(offer)
        await first.close()
        await until(lambda: visitors._taken == 0, 5)
        await second.accept(await visitors.welcome(offer))
        await second.frames.get()
        await second.close()

    run(scene())


def test_a_visitor_who_falls_silent_is_let_go(monkeypatch):
    """The clock of the visits is the test's own: seconds pass only where it says so."""
    now = 100.0
    monkeypatch.setattr(session, "time", SimpleNamespace(monotonic=lambda: now))

    async def scene():
        nonlocal now
        visitors = house()
        visitor = await come_in(visitors)
        for _ in range(6):
            now += 0.9 * session.SILENCE_S
            visitor.channel.send(json.dumps({"type": "ping", "page": 0}))
            await message(visitor, "pong")
        await asyncio.sleep(2.5 * session.REPORT_EVERY_S)  # it is looked at as often as reports are made
        assert visitors._taken == 1
        now += 1.1 * session.SILENCE_S
        await until(lambda: visitors._taken == 0)
        await visitor.close()

    run(scene())


def test_an_offer_that_never_connects_gives_its_place_back(monkeypatch):
    monkeypatch.setattr(session, "SILENCE_S", 0.5)
    monkeypatch.setattr(session, "CONNECT_WITHIN_S", 0.5)

    async def scene():
        visitors = house()
        visitor = Visitor()
        await visitors.welcome(await visitor.offer())
        assert visitors._taken == 1
        await until(lambda: visitors._taken == 0, 4)
        await visitor.close()

    run(scene())


def test_an_error_in_the_worker_is_told_in_a_report():
    async def scene():
        work = Inverting()
        visitors = house(process=work)
        visitor = await come_in(visitors)
        await visitor.frames.get()
        work.fails = True
        while not (said := (await message(visitor, "stats"))["trouble"]):
            pass
        await visitor.close()
        return said

    assert run(scene()).startswith("A frame could not be drawn")


def test_a_pipeline_is_given_to_the_next_visitor_and_has_forgotten_the_last():
    made = []

    def make():
        made.append(Inverting(0.05))
        return made[-1]

    async def scene():
        visitors = Visitors(make, Settings(), {"ink": GROUPS}, Transport(), 1)
        await visitors.prepare()
        for number in range(3):
            visitor = await come_in(visitors)
            await visitor.frames.get()
            await visitor.close()
            await until(lambda so_far=number: made[0].resets > so_far)
        await visitors.close()

    run(scene())
    assert len(made) == 1


def test_a_pipeline_that_cannot_be_made_takes_no_place():
    def fails():
        raise CameraError("no more memory")

    async def scene():
        visitors = Visitors(fails, Settings(), {"ink": GROUPS}, Transport(), 1)
        visitor = Visitor()
        offer = await visitor.offer()
        for _ in range(2):
            with pytest.raises(CameraError, match="no more memory"):
                await visitors.welcome(offer)
        await visitor.close()

    run(scene())


def test_an_unknown_codec_is_refused():
    with pytest.raises(UsageError, match=r"--codec av1: choose one of vp8, h264"):
        Transport("av1")


def test_only_fields_that_exist_can_change():
    assert changed(Settings(), {"tone": 0.5}) == Settings(tone=0.5)
    with pytest.raises(UsageError, match="no setting 'colour'"):
        changed(Settings(), {"colour": 1})


def test_stages_stand_as_a_frame_passes_them():
    assert in_order(["encode", "search", "wait for encoder", "colour out", "paste"]) == [
        "search",
        "paste",
        "colour out",
        "wait for encoder",
        "encode",
    ]


def test_the_start_bitrate_is_told_once_for_each_codec():
    answer = "\r\n".join(
        [
            "v=0",
            "m=video 9 UDP/TLS/RTP/SAVPF 97 98 99 100",
            "a=rtpmap:97 VP8/90000",
            "a=rtpmap:98 rtx/90000",
            "a=fmtp:98 apt=97",
            "a=rtpmap:99 H264/90000",
            "a=fmtp:99 packetization-mode=1",
            "",
        ]
    )
    lines = with_start_bitrate(answer, 2_000_000).split("\r\n")
    assert "a=fmtp:97 x-google-start-bitrate=2000" in lines
    assert "a=fmtp:99 packetization-mode=1;x-google-start-bitrate=2000" in lines
    assert "a=fmtp:98 apt=97" in lines
    assert sum("x-google" in line for line in lines) == 2
