// Calls of the sample back end: who is signed in, and a token for Assetlane.

export interface Session {
  /** The user's uid, which is their name. */
  readonly user: string;
  /** Assetlane's web gateway. */
  readonly api: string;
  /** Its gRPC port, which asks for a token as the gateway does. */
  readonly grpc: string;
  /** The gRPC port of `local`, which serves the same ledger without tokens; empty when there is none. */
  readonly openTarget: string;
  /** Whether assets may be public. If not, URLs in "Everyone" expire, as all others do. */
  readonly publicAssets: boolean;
}

/** The back end refused a request; `field` names the input to change. */
export class Refused extends Error {
  constructor(
    readonly reason: string,
    message: string,
    readonly field: string,
  ) {
    super(message);
  }
}

export async function currentSession(): Promise<Session | undefined> {
  const response = await fetch("/api/session");
  const session = (await answered(response)) as unknown as Session;
  return session.user ? session : undefined;
}

export async function signIn(name: string, password: string): Promise<Session> {
  return (await post("/api/sign-in", { name, password })) as unknown as Session;
}

export async function signUp(name: string, password: string): Promise<Session> {
  return (await post("/api/sign-up", { name, password })) as unknown as Session;
}

/** Signs up with a random name and password, so that one click is enough. */
export async function signUpAsGuest(): Promise<Session> {
  const random = (count: number) => [...crypto.getRandomValues(new Uint8Array(count))].map((value) => value.toString(16).padStart(2, "0")).join("");
  return signUp(`guest-${random(4)}`, random(24));
}

export async function signOut(): Promise<void> {
  await post("/api/sign-out", {});
}

/** Returns a token for Assetlane. Reloads the page, to sign in again, when the session has ended. */
export async function freshToken(): Promise<string> {
  try {
    return (await post("/api/token", {}))["token"] as string;
  } catch (error) {
    if (error instanceof Refused && error.reason === "NOT_SIGNED_IN") location.reload();
    throw error;
  }
}

export interface Finding {
  readonly name: string;
  readonly verdict: "ok" | "warning" | "FAILED" | "skipped";
  readonly detail: string;
  readonly advice: string;
}

/** Yields the findings of doctor, each as soon as it is made. */
export async function* findings(): AsyncGenerator<Finding> {
  const response = await fetch("/api/doctor", asJson({}));
  if (!response.ok || !response.body) {
    await answered(response);
    return;
  }
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    text += decoder.decode(value, { stream: !done });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line) as Finding;
    if (done) return;
  }
}

async function post(path: string, body: unknown): Promise<Record<string, unknown>> {
  return answered(await fetch(path, asJson(body)));
}

function asJson(body: unknown): RequestInit {
  return { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), credentials: "same-origin" };
}

async function answered(response: Response): Promise<Record<string, unknown>> {
  const body = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  if (response.ok) return body;
  throw new Refused(String(body["reason"] ?? "UNAVAILABLE"), String(body["message"] ?? "The gallery's server did not answer."), String(body["field"] ?? ""));
}
