// host.js LIBRARY: the main thread and two workers call a native addon, collect
// garbage, and read out of bounds in WebAssembly, which V8 finds by SIGSEGV.
const { Worker, isMainThread, threadId } = require('worker_threads');
const addon = { exports: {} };
const library = isMainThread ? process.argv[2] : process.argv[process.argv.length - 1];
process.dlopen(addon, library);
const { ready, calls, wrong } = addon.exports;

const wasm = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array([
	0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f, 3, 2, 1, 0, 5, 3, 1, 0, 1,
	7, 8, 1, 4, 0x6c, 0x6f, 0x61, 0x64, 0, 0, 10, 9, 1, 7, 0, 0x20, 0, 0x28, 2, 0, 11,
]))).exports;

function outOfBounds() {
	try {
		wasm.load(1 << 30);
	} catch (e) {
		return e instanceof WebAssembly.RuntimeError;
	}
	return false;
}

let from = threadId * 100000, garbage = [];
function turn() {
	for (let i = 0; i < 20; i++, from += 64) {
		calls(from % 1000000000);
		if (!outOfBounds() || wasm.load(0) !== 0) wrong();
		garbage[i] = new Array(1000).fill({ from });
	}
	setImmediate(turn);
}

if (isMainThread) {
	ready();
	for (let i = 0; i < 2; i++) new Worker(__filename, { argv: [library] });
}
turn();
