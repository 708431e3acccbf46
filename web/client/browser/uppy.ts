// Uppy with its Dashboard and our plugin, as the tests in tests/web drive it. `?gr`: with Golden Retriever.
import * as assetlane from "@assetlane/client";
import Assetlane from "@assetlane/uppy";
import Uppy from "@uppy/core";
import "@uppy/core/css/style.min.css";
import Dashboard from "@uppy/dashboard";
import "@uppy/dashboard/css/style.min.css";
import GoldenRetriever from "@uppy/golden-retriever";

const query = new URLSearchParams(location.search);
const client = new assetlane.AssetlaneClient({ url: query.get("api") ?? location.origin, token: () => (window as unknown as { token: string }).token });
const uppy = new Uppy();
uppy.use(Dashboard, { inline: true, target: "#drop" });
uppy.use(Assetlane, { client, upload: { partition: query.get("partition") ?? "public" } });
if (query.has("gr")) uppy.use(GoldenRetriever);
const log: unknown[] = [];
uppy.on("upload-progress", (file, { bytesUploaded }) => log.push(["progress", file?.name, bytesUploaded]));
uppy.on("upload-success", (file, response) => log.push(["success", file?.name, response.body, response.uploadURL]));
uppy.on("upload-error", (file, error) => log.push(["error", file?.name, error.message, (error as { reason?: string }).reason]));
Object.assign(window, { uppy, client, log });
