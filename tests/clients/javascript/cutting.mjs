// A proxy that cuts the connection of the first answer after `frames` frames. `use` gets the proxy's `url`.
// It is put before the scripts of the clients.
import net from "node:net";

async function cutting(url, frames, use) {
  const { port } = new URL(url);
  let isFirst = true;
  const server = net.createServer((client) => {
    const upstream = net.connect(port, "127.0.0.1");
    const cuts = isFirst;
    let left = frames + 1; // the head ends with an empty line too
    isFirst = false;
    client.on("data", (data) => upstream.write(data)).on("error", () => upstream.destroy());
    client.on("close", () => upstream.destroy());
    upstream.on("error", () => client.destroy()).on("close", () => client.destroy());
    upstream.on("data", (data) => {
      let end = 0;
      for (let at = data.indexOf("\n\n"); cuts && at >= 0 && left > 0; at = data.indexOf("\n\n", end)) {
        end = at + 2;
        left -= 1;
      }
      if (cuts && left <= 0) client.end(data.subarray(0, end), () => client.resetAndDestroy());
      else client.write(data);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await use(url.replace(`:${port}`, `:${server.address().port}`));
  } finally {
    server.close();
  }
}
