# SPDX-License-Identifier: GPL-2.0
# A front that asks eight workers, each an isolate of its own with Wasm code.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
	services = [
		(name = "front", worker = .front),
		(name = "worker1", worker = .back), (name = "worker2", worker = .back),
		(name = "worker3", worker = .back), (name = "worker4", worker = .back),
		(name = "worker5", worker = .back), (name = "worker6", worker = .back),
		(name = "worker7", worker = .back), (name = "worker8", worker = .back),
	],
	sockets = [(name = "http", address = "127.0.0.1:8080", http = (), service = "front")],
);

const front :Workerd.Worker = (
	modules = [(name = "front.mjs", esModule = embed "front.mjs")],
	compatibilityDate = "2024-01-01",
	bindings = [
		(name = "worker1", service = "worker1"), (name = "worker2", service = "worker2"),
		(name = "worker3", service = "worker3"), (name = "worker4", service = "worker4"),
		(name = "worker5", service = "worker5"), (name = "worker6", service = "worker6"),
		(name = "worker7", service = "worker7"), (name = "worker8", service = "worker8"),
	],
);

const back :Workerd.Worker = (
	modules = [
		(name = "back.mjs", esModule = embed "back.mjs"),
		(name = "sum.wasm", wasm = embed "sum.wasm"),
	],
	compatibilityDate = "2024-01-01",
);
