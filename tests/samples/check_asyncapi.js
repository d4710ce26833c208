// Reads an AsyncAPI document from standard input and prints what the AsyncAPI project's own parser says of it, as JSON.
"use strict";
const { Parser } = require("@asyncapi/parser");

async function main() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const { document, diagnostics } = await new Parser().parse(Buffer.concat(chunks).toString());
  const found = diagnostics.map(({ code, message, path, severity }) => ({ code, message, path: path.join("."), severity }));
  const channels = document ? document.channels().all().map((channel) => channel.id()) : [];
  const operations = document ? document.operations().all().map((operation) => operation.id()) : [];
  console.log(JSON.stringify({ valid: document !== undefined, channels, operations, diagnostics: found }));
}

main();
