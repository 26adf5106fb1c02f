// SPDX-License-Identifier: GPL-2.0
// Asks all workers at once. The answer is "8 results" and the result, if all are the same.
export default {
	async fetch(request, env) {
		const answers = await Promise.all(Object.values(env).map(async (worker) =>
			(await worker.fetch('http://worker/')).text()));
		const same = answers.every((answer) => answer === answers[0]);
		return new Response(`${same ? answers.length : 'different'} results ${answers[0]}`);
	},
};
