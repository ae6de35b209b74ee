// What browsers have and node 18 (Debian 12) does not have by default. Imported before the SDK.

import { webcrypto } from 'node:crypto';

globalThis.crypto ??= webcrypto;
globalThis.CustomEvent ??= class CustomEvent extends Event {
  constructor(name, options) {
    super(name, options);
    this.detail = options?.detail ?? null;
  }
};
