// The page to sign in: with an account, a new account, or as a guest.

import { ArrowRight } from "lucide";

import { announce, fill, h, icon } from "./dom.ts";
import { wordmark } from "./mark.ts";
import { Refused, signIn, signUp, signUpAsGuest, type Session } from "./session.ts";

const KNOWN = "assetlane-gallery-known";

/** Shows the page to sign in until somebody has signed in. */
export function signedIn(root: HTMLElement): Promise<Session> {
  return new Promise((resolve) => {
    const enter = (session: Session) => {
      localStorage.setItem(KNOWN, "1");
      resolve(session);
    };
    fill(root, signInPage(enter));
    root.querySelector<HTMLInputElement>("#name")?.focus({ preventScroll: true });
  });
}

function signInPage(enter: (session: Session) => void): HTMLElement {
  let isNew = localStorage.getItem(KNOWN) === null;
  const problem = h("p", { class: "problem", id: "problem", role: "alert" });
  const name = h("input", { id: "name", name: "username", type: "text", required: true, maxlength: 64, autocomplete: "username", autocapitalize: "none", spellcheck: "false", "aria-describedby": "problem" });
  const password = h("input", { id: "password", name: "password", type: "password", required: true, maxlength: 200, "aria-describedby": "problem" });
  const heading = h("h1", {});
  const submit = h("button", { type: "submit", class: "button wide" });
  const other = h("button", { type: "button", class: "link" });
  const guest = h("button", { type: "button", class: "button quiet wide", onclick: () => void act(signUpAsGuest) }, "Look around as a guest", icon(ArrowRight, 18));
  const title = () => {
    heading.textContent = isNew ? "Create an account" : "Welcome back";
    submit.textContent = isNew ? "Create account" : "Sign in";
    other.textContent = isNew ? "I have an account" : "I am new here";
    password.autocomplete = isNew ? "new-password" : "current-password";
    password.minLength = isNew ? 8 : 1;
  };
  other.addEventListener("click", () => {
    isNew = !isNew;
    problem.textContent = "";
    title();
    name.focus();
  });
  const act = async (work: () => Promise<Session>) => {
    problem.textContent = "";
    for (const field of [name, password]) field.removeAttribute("aria-invalid");
    for (const button of [submit, guest]) button.disabled = true;
    try {
      enter(await work());
    } catch (error) {
      problem.textContent = error instanceof Refused ? error.message : "The gallery's server did not answer. Is it running?";
      announce(problem.textContent);
      const field = error instanceof Refused ? { name, password }[error.field] : undefined;
      field?.setAttribute("aria-invalid", "true");
      field?.focus();
    } finally {
      for (const button of [submit, guest]) button.disabled = false;
    }
  };
  const form = h("form", { novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    void act(() => (isNew ? signUp : signIn)(name.value, password.value));
  } },
    heading,
    h("div", { class: "field" }, h("label", { for: "name" }, "Name or e-mail"), name),
    h("div", { class: "field" }, h("label", { for: "password" }, "Password"), password),
    problem,
    submit,
    h("div", { class: "or", "aria-hidden": "true" }, h("span", {}, "or")),
    guest,
    h("p", { class: "swap" }, other),
  );
  title();
  return h("main", { class: "sign-in" },
    h("div", { class: "sign-in-art", "aria-hidden": "true" }, ...Array.from({ length: 9 }, (_, index) => h("i", { class: `pane p${index}` }))),
    h("div", { class: "sign-in-side" },
      h("div", { class: "sign-in-inner" },
        wordmark(),
        form,
        h("p", { class: "sign-in-note" }, "This sign-in is part of the sample: names and password hashes are kept in the embedded MongoDB. In production your own identity provider signs people in."),
      ),
    ),
  );
}
