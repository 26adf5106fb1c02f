// SPDX-License-Identifier: GPL-2.0
// Real work for a JavaScript runtime with the modules of Node.js (nodejs, deno): JIT code
// and Wasm code in eight workers at once, and in the server of an HTTP request. Then it
// says "working" and waits for the file named in its argument, so that its keys can be
// looked at. It ends with status 0 if all results were right.
import { createServer, get } from 'node:http';
import { existsSync } from 'node:fs';
import { Worker, isMainThread, parentPort } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
import { start } from './wasm.mjs';

const WORKERS = 8;
const ROUNDS = 20000;
const me = fileURLToPath(import.meta.url);

// The same sum in JavaScript, often enough to be compiled.
function sum(n) {
	let s = 0;
	for (let i = 1; i <= n; i++)
		s = (s + i) | 0;
	return s;
}

function work() {
	const wasm = start();
	for (let i = 0; i < 50; i++)
		if (wasm.sum(ROUNDS + i) !== sum(ROUNDS + i))
			throw new Error(`Wasm and JavaScript differ for ${ROUNDS + i}`);
	return wasm.sum(ROUNDS);
}

function in_worker() {
	return new Promise((resolve, reject) => {
		const worker = new Worker(me);
		worker.on('message', resolve);
		worker.on('error', reject);
	});
}

// Asks itself at an address; the answer is computed by Wasm code.
function request_at(listen, host) {
	return new Promise((resolve, reject) => {
		const server = createServer((_, response) => response.end(String(work())));
		server.on('error', reject);
		server.listen(listen, () => {
			const port = server.address().port;
			get(host ? { host, port } : { socketPath: listen.path }, (response) => {
				let body = '';
				response.on('data', (part) => body += part);
				response.on('end', () => server.close(() => resolve(Number(body))));
			}).on('error', reject);
		});
	});
}

// Over the loopback, or over a Unix socket on a kernel without INET.
async function request() {
	try {
		return await request_at({ host: '127.0.0.1', port: 0 }, '127.0.0.1');
	} catch (error) {
		console.log(`no loopback: ${error.code}`);
		return await request_at({ path: `/tmp/work-${process.pid}` });
	}
}

async function main(go_on) {
	const want = sum(ROUNDS);
	const results = await Promise.all(Array.from({ length: WORKERS }, in_worker));
	results.push(work(), await request());
	if (results.some((result) => result !== want))
		throw new Error(`results ${results}, not ${want}`);
	console.log('working');
	while (!existsSync(go_on))
		await new Promise((resolve) => setTimeout(resolve, 100));
	work();
	console.log(`ended with ${results.length} results ${want}`);
	process.exit(0);
}

if (isMainThread)
	await main(process.argv[2]);
else
	parentPort.postMessage(work());
