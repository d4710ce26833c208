// Decodes bodies with the sample in Node.js: hexadecimal in, one per line; plain JSON out.
"use strict";
const { decode } = require("../../../consumers/samples/subscriber.js");

function plain(value) { // JSON; it has no NaN, no infinity, and JavaScript's writer no BigInt
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number" && !Number.isFinite(value)) return `{"$float":"${value}"}`;
  if (Array.isArray(value)) return `[${value.map(plain).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.keys(value).map((key) => `${JSON.stringify(key)}:${plain(value[key])}`).join(",")}}`;
}

const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", (line) => console.log(plain(decode(Buffer.from(line, "hex")))));
