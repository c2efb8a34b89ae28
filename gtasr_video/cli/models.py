"""``gtasr-video models``."""

from __future__ import annotations

import click


@click.command("models", short_help="List the networks: size, cost, weights, licence.")
def command() -> None:
    """List the networks: scales, parameters, multiply-accumulates, where the weights are, their SHA-256 and licence."""
    from rich.table import Table

    from gtasr_video.cli.messages import console
    from gtasr_video.models import TIERS, tier_facts
    from gtasr_video.models.budget import SCALES

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("tier", "parameters", "allowed", *(f"MAC/px x{s}" for s in SCALES), "allowed x4", "designed for"):
        table.add_column(heading, justify="left" if heading in ("tier", "designed for") else "right", no_wrap=True)
    for name in TIERS:
        facts = tier_facts(name)
        macs = [_millions(facts.macs[scale]) for scale in SCALES]
        table.add_row(
            name,
            _millions(facts.parameters),
            _millions(facts.budget.parameters),
            *macs,
            _millions(facts.budget.macs),
            facts.budget.purpose,
        )
    table.add_row("bicubic", *["0"] * 2, *[_millions(48 * s * s) for s in SCALES], "", "comparison")
    out = console()
    # Captured, since rich ends the program with an error when the reader of a pipe has gone.
    with out.capture() as text:
        out.print(table)
    click.echo(text.get(), nl=False)
    click.echo("Parameters: with what is particular to x4, x3 and x2; weights may have other scales.")
    click.echo("MAC/px: multiply-accumulates of one step per pixel of the input, all counted.")
    click.echo("Designed for: what a tier's budget aims at, not a speed that was measured.\n")
    for name in TIERS:
        click.echo(_weights(name))


def _weights(name: str) -> str:
    """Return what is known of a tier's weights: file, scales, digest, licence, training."""
    from gtasr_video.errors import ModelError
    from gtasr_video.models import read_card, sha256, weights_path

    try:
        path = weights_path(name)
        card = read_card(path)
    except ModelError:
        return f"{name}: no weights yet; train them: gtasr-video train --help\n"
    state = "" if card.finished else "  IN TRAINING"
    lines = (
        f"{name}: {path}{state}",
        f"   scales   {', '.join(map(str, card.scales))}",
        f"   sha256   {sha256(path)}",
        f"   licence  {card.licence or 'not stated'}",
        f"   trained  {card.clips} clips{f' of {card.data}' if card.data else ''}",
    )
    return "\n".join(lines) + "\n"


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g} M" if count >= 10_000 else str(count)
