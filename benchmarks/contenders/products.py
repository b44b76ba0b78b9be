"""The tower's matrix products alone, forward and both ways back, for as many batches as a pass has.

No loop that computes these layers can be faster than this; rows per second over it are the share of the machine's
matrix-product ceiling.
"""

import torch
from torch import Tensor, nn
from worker import Contender, main
from workload import Rows, Workload


class Products(Contender):
    def __init__(self, workload: Workload, overrides: dict[str, str]) -> None:
        super().__init__(workload, overrides)
        self.widths = [len(workload.fields) * workload.embedding_dim, *workload.hidden_units, 1]
        pairs = zip(self.widths[:-1], self.widths[1:], strict=True)
        self.weights = [nn.Parameter(torch.randn(units, inputs)) for inputs, units in pairs]
        self.model = nn.ParameterList(self.weights)

    def load(self, rows: Rows, shuffle: bool) -> int:
        return len(rows.labels)

    @torch.no_grad()
    def train(self, data: int) -> None:
        size = self.workload.batch_size
        inputs = [torch.randn(size, width) for width in self.widths]  # also the gradients of a layer's outputs
        forward = [torch.empty(size, width) for width in self.widths[1:]]
        back = [torch.empty(size, width) for width in self.widths[:-1]]
        gradients = [torch.empty_like(weight) for weight in self.weights]
        for start in range(0, data, size):
            rows = min(size, data - start)
            for layer, weight in enumerate(self.weights):
                torch.mm(inputs[layer][:rows], weight.T, out=forward[layer][:rows])
            for layer in reversed(range(len(self.weights))):
                towards: Tensor = inputs[layer + 1][:rows]
                torch.mm(towards.T, inputs[layer][:rows], out=gradients[layer])
                torch.mm(towards, self.weights[layer], out=back[layer][:rows])


if __name__ == "__main__":
    main(Products)
