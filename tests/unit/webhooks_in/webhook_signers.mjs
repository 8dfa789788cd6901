// Signs or verifies as GitHub's and Shopify's own libraries do; one JSON request in, one JSON answer out.
import { readFileSync } from "node:fs";
import { sign, verify } from "@octokit/webhooks-methods";
import "@shopify/shopify-api/adapters/node";
import { shopifyApi, ApiVersion, LogSeverity } from "@shopify/shopify-api";

const { github, shopify } = JSON.parse(readFileSync(0, "utf8"));
const answer = { github: [], shopify: [] };

for (const { secret, body, signature } of github) {
  answer.github.push(signature === undefined ? await sign(secret, body) : await verify(secret, body, signature));
}
for (const { secret, body, headers } of shopify) {
  const api = shopifyApi({
    apiKey: "key",
    apiSecretKey: secret,
    apiVersion: Object.values(ApiVersion).at(-1),
    hostName: "shop.example.com",
    isEmbeddedApp: false,
    logger: { level: LogSeverity.Error },
  });
  const result = await api.webhooks.validate({ rawBody: body, rawRequest: { method: "POST", url: "/", headers } });
  answer.shopify.push(result.valid);
}
process.stdout.write(JSON.stringify(answer));
