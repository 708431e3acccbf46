import "@fontsource-variable/figtree/wght.css";

import { showGallery } from "./app.ts";
import { currentSession } from "./session.ts";
import { signedIn } from "./sign-in.ts";

const root = document.querySelector<HTMLElement>("#root");
if (root) {
  const session = (await currentSession().catch(() => undefined)) ?? (await signedIn(root));
  showGallery(root, session);
}
