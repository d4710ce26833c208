// The same fan-out with Node's `ws`: node peer.mjs FEED_PORT QUOTES_PER_S (0: every one). NODE_WS is the module's file.
import net from "node:net";
import readline from "node:readline";
const { WebSocketServer } = await import(process.env.NODE_WS);

const [feedPort, perS] = process.argv.slice(2).map(Number);
const clients = new Map();
const newest = new Map();

function send(quote) {
  const { symbol, bid, ask, time } = quote;
  const spread = Math.round((ask - bid) * 1e5) / 10;
  // A buffer made once for all clients, as the documentation of `ws` advises for broadcasts.
  const text = Buffer.from(JSON.stringify({ type: "quote", data: { symbol, bid, ask, spread, time } }));
  for (const client of clients.get(symbol) ?? []) if (client.readyState === 1) client.send(text, { binary: false });
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
server.on("listening", () => console.log(server.address().port));
server.on("connection", (client) => {
  client.on("message", (text) => {
    const { symbols } = JSON.parse(text);
    for (const symbol of symbols) clients.set(symbol, (clients.get(symbol) ?? new Set()).add(client));
    client.send(JSON.stringify({ type: "subscription", status: "success", symbols }));
  });
  client.on("close", () => clients.forEach((found) => found.delete(client)));
  client.on("error", () => client.terminate());
});
if (perS) {
  setInterval(() => {
    const waiting = [...newest.values()];
    newest.clear();
    waiting.forEach(send);
  }, 1000 / perS);
}
readline.createInterface({ input: net.connect(feedPort, "127.0.0.1") }).on("line", (line) => {
  const quote = JSON.parse(line);
  if (perS) newest.set(quote.symbol, quote);
  else send(quote);
});
