"""Pipes and addresses: media that is read once, written once, and does not wait.

    Source (pipe_source, network_source) -> Connection: demuxed once -> StreamReader: frames on one clock
                                                                    -> SoundQueue: sound packets
    StreamWriter: encoder, FedSound -> Outlet (outlets: pipe, file; network_outlet: a queue and a Sender for each)

What crosses a network goes through an ffmpeg program (`Child`); see docs/decisions/0008-streams.md.
"""
