"""Federated learning with small messages: what both ends need, without any framework.

A :class:`Server` and its :class:`Client` objects turn models into messages and back; how the messages travel is up to
the caller. The integration with Flower is :mod:`netpress.federated.flower`.

>>> import numpy
>>> server = Server({"w": numpy.zeros((16, 16), "f4")})
>>> clients = [Client("a"), Client("b")]
>>> for client in clients:
...     model = client.receive(server.broadcast(client.name))
...     model["w"] += numpy.eye(16, dtype="f4")
...     server.collect(client.send(model, samples=100), client.name)
>>> report = server.aggregate()
>>> report.version, report.samples
(1, {'a': 100.0, 'b': 100.0})
"""

from netpress.federated.accumulator import Accumulator
from netpress.federated.client import Client
from netpress.federated.config import FederatedConfig, Sparsification
from netpress.federated.server import RoundReport, Server

__all__ = ["Accumulator", "Client", "FederatedConfig", "RoundReport", "Server", "Sparsification"]
