"""The server: one line is new, the wrapper around the strategy."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from digits.task import accuracy, load_data, make_network
from netpress.federated.flower import Compressed

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train with federated averaging, and print what was sent."""
    clients, rounds = int(context.run_config.get("clients", 2)), int(context.run_config.get("rounds", 3))
    strategy = Compressed(FedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients))
    network = make_network()
    result = strategy.start(grid, ArrayRecord(network.state_dict()), num_rounds=rounds)
    network.load_state_dict(result.arrays.to_torch_state_dict())
    for report in strategy.grid.reports:
        print(
            f"sent {report.sent_bytes}, received {report.received_bytes} bytes from {len(report.samples)} clients: "
            f"{report.saved:.1%} saved"
        )
    print(f"accuracy {accuracy(network, *load_data(-1, 1)):.3f}")
