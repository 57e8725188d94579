"""The client: one line is new, the mod."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits.task import load_data, make_network, train
from netpress.federated.flower import client_mod

app = ClientApp(mods=[client_mod])


@app.train()
def local_training(message: Message, context: Context) -> Message:
    """Train the model of the server on the data of this client."""
    network = make_network()
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    part = context.node_config.get("partition-id", context.node_id)
    images, labels = load_data(
        int(part) % int(context.run_config.get("clients", 2)), int(context.run_config.get("clients", 2))
    )
    train(network, images, labels, float(context.run_config.get("rate", 0.05)))
    content = RecordDict(
        {"arrays": ArrayRecord(network.state_dict()), "metrics": MetricRecord({"num-examples": len(images)})}
    )
    return Message(content, reply_to=message)
