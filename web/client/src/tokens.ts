// The token of each call: fetched when it is needed, and again when it has run out.

import { Code } from "@connectrpc/connect";

import { CallFailed } from "./errors.js";

/** A bearer token, or a function that fetches one. The function is called again when its token has run out. */
export type Token = string | (() => string | Promise<string>);

/** A token that ends within this time is replaced before the server refuses it. */
const MARGIN_MS = 30_000;

export class Tokens {
  #fetched: Promise<string> | undefined;
  #endMs = Number.POSITIVE_INFINITY;

  constructor(private readonly token: Token | undefined) {}

  /** Whether a refused token can be replaced. */
  get canRenew(): boolean {
    return typeof this.token === "function";
  }

  /** Returns the token, one call of the function for everybody who waits. Throws TOKEN_UNAVAILABLE. */
  async get(): Promise<string | undefined> {
    if (typeof this.token !== "function") return this.token;
    if (this.#endMs - MARGIN_MS <= Date.now()) this.forget();
    const fetched = (this.#fetched ??= this.#fetch(this.token));
    try {
      return await fetched;
    } catch (error) {
      if (this.#fetched === fetched) this.#fetched = undefined;
      const why = error instanceof Error ? error.message : String(error);
      throw new CallFailed("TOKEN_UNAVAILABLE", `The token function failed: ${why}`, Code.Unavailable, {}, [], undefined, { cause: error });
    }
  }

  /** The server refused this token: the next call fetches another, unless that has happened already. */
  async refused(token: string | undefined): Promise<void> {
    const current = await this.#fetched?.catch(() => undefined);
    if (current === token) this.forget();
  }

  forget(): void {
    this.#fetched = undefined;
    this.#endMs = Number.POSITIVE_INFINITY;
  }

  async #fetch(token: () => string | Promise<string>): Promise<string> {
    const fetched = await token();
    const lifeMs = lifeOf(fetched);
    // One that lives shorter than the margin is used until the server refuses it.
    this.#endMs = lifeMs !== undefined && lifeMs > 2 * MARGIN_MS ? Date.now() + lifeMs : Number.POSITIVE_INFINITY;
    return fetched;
  }
}

/** Claims of a JWT, not verified: the server does that. Undefined for tokens of another kind. */
export function claimsOf(token: string | undefined): Record<string, unknown> | undefined {
  const payload = token?.split(".")[1];
  if (!payload) return undefined;
  try {
    const bytes = Uint8Array.from(atob(payload.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === "object" && claims !== null ? (claims as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // an opaque token
  }
}

/** The life of a JWT from now, by this device's clock; by the issuer's, when it says when it was issued. */
function lifeOf(token: string): number | undefined {
  const { exp, iat } = claimsOf(token) ?? {};
  if (typeof exp !== "number") return undefined;
  return typeof iat === "number" ? (exp - iat) * 1000 : exp * 1000 - Date.now();
}
