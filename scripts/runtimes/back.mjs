// SPDX-License-Identifier: GPL-2.0
// The same sum in JavaScript and in Wasm, often enough to be compiled.
import module from './sum.wasm';

const ROUNDS = 20000;

function sum(n) {
	let s = 0;
	for (let i = 1; i <= n; i++)
		s = (s + i) | 0;
	return s;
}

export default {
	fetch() {
		const wasm = new WebAssembly.Instance(module).exports;
		for (let i = 0; i < 50; i++)
			if (wasm.sum(ROUNDS + i) !== sum(ROUNDS + i))
				throw new Error(`Wasm and JavaScript differ for ${ROUNDS + i}`);
		return new Response(String(wasm.sum(ROUNDS)));
	},
};
