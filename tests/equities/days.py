"""Small batches of days for the tests of the network and of its losses."""

import torch

from deepfm.equities.days.batch import DayBatch

FEATURES, LOOK_BACK, HORIZONS, SECTORS = 6, 20, 4, 3
GROUPS = (0, 0, 1, 2, 3, 4)


def days_of(*sizes, seed=0, edges_each=2):
    """Days of so many stocks, edges in both directions within each."""
    draw = torch.Generator().manual_seed(seed)
    rows = sum(sizes)
    day = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    stock = torch.cat([torch.randperm(max(sizes) + 3, generator=draw)[:size] for size in sizes])
    pairs, first = [torch.zeros(2, 0, dtype=torch.int64)], 0
    for size in sizes:
        if size > 2:
            found = first + torch.randint(size - 1, (2, edges_each * size // 2), generator=draw)  # the last: isolated
            found = found[:, found[0] != found[1]].sort(0).values.unique(dim=1)
            pairs.append(torch.cat([found, found.flip(0)], dim=1))
        first += size
    edge_index = torch.cat(pairs, dim=1)
    correlation = torch.rand(edge_index.shape[1], generator=draw) * 2 - 1
    same = (torch.rand(edge_index.shape[1], generator=draw) < 0.5).float()
    return DayBatch(
        torch.randn(rows, LOOK_BACK, FEATURES, generator=draw).cumsum(1) / 5,
        day,
        stock,
        torch.randint(SECTORS + 1, (rows,), generator=draw),
        edge_index,
        torch.stack([correlation, correlation.abs(), same], dim=1),
        torch.rand(rows, HORIZONS, generator=draw) - 0.5,
        torch.randn(rows, HORIZONS, generator=draw) * 0.02,
    )


def in_order(batch, order):
    """The batch with its rows in another order, of which days must still not fall."""
    at = torch.argsort(order)
    rows = {name: getattr(batch, name)[order] for name in ("sequences", "day", "stock", "sector", "targets", "returns")}
    return DayBatch(edge_index=at[batch.edge_index], edge_attr=batch.edge_attr, **rows)


def without_edges(batch):
    """The batch with an empty graph."""
    parts = {name: getattr(batch, name) for name in ("day", "stock", "sector", "targets", "returns")}
    return DayBatch(
        sequences=batch.sequences, edge_index=batch.edge_index[:, :0], edge_attr=batch.edge_attr[:0], **parts
    )
