// Programs and commands that read an asset, for the drawer. Pure functions.

export interface Where {
  /** Assetlane's web gateway; it asks for a token. */
  readonly api: string;
  /** Its gRPC port; it asks for a token, too. */
  readonly grpc: string;
  /** A gRPC port on the same ledger that asks for none; empty when there is no such port. */
  readonly openTarget: string;
}

export const LANGUAGES = ["Python", "TypeScript", "grpcurl", "curl"] as const;
export type Language = (typeof LANGUAGES)[number];

/** A program or command that reads this asset. Those that need a token take it from `ASSETLANE_TOKEN`. */
export function snippet(language: Language, assetId: string, where: Where): string {
  const needsToken = !where.openTarget;
  const target = where.openTarget || where.grpc;
  switch (language) {
    case "Python":
      return `import asyncio
${needsToken ? "import os\n" : ""}
from assetlane import Client


async def main() -> None:
    async with Client("${target}"${needsToken ? ', token=os.environ["ASSETLANE_TOKEN"]' : ""}) as client:
        asset = await client.get_asset("${assetId}")
        print(asset.file_path, [variant.name for variant in asset.variants])
        print(await client.read_url(asset))


asyncio.run(main())
`;
    case "TypeScript":
      return `import { AssetlaneClient } from "@assetlane/client";

const client = new AssetlaneClient({ url: "${where.api}", token: process.env.ASSETLANE_TOKEN });
const asset = await client.getAsset("${assetId}");
console.log(asset.filePath, asset.variants.map((variant) => variant.name));
console.log(await client.readUrl(asset));
`;
    case "grpcurl":
      return `grpcurl -plaintext ${needsToken ? '-H "authorization: Bearer $ASSETLANE_TOKEN" ' : ""}-d '{"asset_id": "${assetId}"}' ${target} assetlane.v1.AssetService/GetAsset\n`;
    case "curl":
      return `curl -s -H "authorization: Bearer $ASSETLANE_TOKEN" ${where.api}/v1/assets/${assetId}\n`;
  }
}

/** Whether a snippet of this language takes a token. */
export function takesToken(language: Language, where: Where): boolean {
  return language === "curl" || language === "TypeScript" || !where.openTarget;
}
