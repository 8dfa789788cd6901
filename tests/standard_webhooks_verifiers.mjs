// Verifies as receivers in JavaScript do: one JSON request a line in, one JSON answer a line out.
import { createPublicKey, verify } from "node:crypto";
import { createInterface } from "node:readline";
import OpenAI from "openai";
import { Webhook } from "standardwebhooks";

const realNow = Date.now;
const openai = new OpenAI({ apiKey: "none" });

const verifiers = {
  "npm standardwebhooks": async (secret, headers, body) => {
    new Webhook(secret).verify(body, headers, { jsonParse: false });
  },
  "npm openai": (secret, headers, body) => openai.webhooks.verifySignature(body.toString(), headers, secret),
  "node:crypto": async (publicKey, headers, body) => {
    const x = Buffer.from(publicKey.slice("whpk_".length), "base64").toString("base64url");
    const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
    const signed = Buffer.concat([Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`), body]);
    if (Math.abs(Date.now() / 1000 - Number(headers["webhook-timestamp"])) > 300) throw new Error("too old or too new");
    const signatures = headers["webhook-signature"].split(" ").filter((each) => each.startsWith("v1a,"));
    if (!signatures.some((each) => verify(null, signed, key, Buffer.from(each.slice(4), "base64"))))
      throw new Error("no signature holds");
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, headers, body, now, names } = JSON.parse(line);
  Date.now = now === null ? realNow : () => now * 1000;
  const said = {};
  for (const name of names) {
    try {
      await verifiers[name](secret, headers, Buffer.from(body, "base64"));
      said[name] = "";
    } catch (error) {
      said[name] = `${error.message || error}`;
    }
  }
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
