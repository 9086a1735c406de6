/* SPDX-License-Identifier: Apache-2.0 */
/* taipy_tunnel.h: the C interface of libtaipy_tunnel.so. This file is its document.
 *
 * One call opens a managed reverse SSH tunnel and returns at once; what happens to it
 * afterwards is told by tt_status() and announced on one eventfd:
 *
 *     int64_t h = tt_expose("{\"server\":\"user@host\",\"target\":\"127.0.0.1:5000\"}", 30000);
 *     struct pollfd p = { tt_event_fd(), POLLIN, 0 };
 *     while (poll(&p, 1, -1) > 0) {
 *         read(p.fd, &n, 8);                                 // take the announcement
 *         while ((len = tt_events(buf, sizeof buf)) > 2) …;  // "[]" means nothing is left
 *         tt_status(h, buf, sizeof buf);                     // {"state":"up","url":…}
 *     }
 *     tt_close(h, 5000);                                     // … until the state is "closed"
 *     tt_release(h);
 *
 * Promises
 *   - No call blocks on the network, on a file or on another thread's work: each returns
 *     within microseconds, so a caller holding an interpreter's lock may release it or not.
 *   - All calls may be made from any thread. Nothing is called back.
 *   - Nothing is ever written to descriptors 1 and 2.
 *   - After the first tt_abi_version() every signal does what it did before, but SIGSEGV,
 *     SIGBUS and SIGFPE, which Go's runtime looks at and passes on, and SIGURG, which it uses.
 *   - No pointer crosses the border to be freed: text goes in as a NUL-terminated UTF-8
 *     string that is copied before the call returns, and comes out in the caller's buffer.
 *   - In a process forked after loading, every call returns TT_FORKED and Go is not entered.
 *
 * Text that comes out
 *   A function with (buf, len) returns the number of bytes of its text, without the NUL that
 *   follows it. If that number is >= len, nothing was written or consumed: call again with a
 *   larger buffer. buf may be NULL if len is 0. All texts are JSON.
 *
 * Hints
 *   A "hint" says to a person what to do, "" if nothing. A setting in it is a mark in braces: the name
 *   that tt_expose()'s config has for it, or "timeout", and perhaps a value in JSON, in which braces are
 *   written twice: {host_key}, {url="https://host/"}. Show it as your users write settings: host_key=,
 *   --host-key. Other braces are written twice, "{{" for "{"; they never begin a mark.
 */
#ifndef TAIPY_TUNNEL_H
#define TAIPY_TUNNEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes whenever a call, a number or a JSON field below changes its meaning.
 * Callers compare it with tt_abi_version() before anything else. */
#define TT_ABI_VERSION 5

/* What a call returns instead of a count or a handle. */
#define TT_ARGUMENT (-1) /* a NULL pointer, text that is not UTF-8, or a number out of range */
#define TT_HANDLE   (-2) /* no such tunnel or question: never there, or released */
#define TT_INTERNAL (-3) /* a defect of ours; the next tt_events() carries a log record of it */
#define TT_FORKED   (-4) /* this process was forked from the one that loaded the library */

/* The TT_ABI_VERSION that the library was built with. Call it first: it waits, milliseconds,
 * until the library has started, and undoes what that did to its host's SIGPIPE. */
int32_t tt_abi_version(void);

/* What the library is and holds: {"version":"0.1.0","handles":0,"goroutines":4}. */
int32_t tt_info(char *buf, size_t len);

/* Opens a tunnel and returns its handle (> 0), or a number below 0. Everything else, a bad
 * configuration included, shows in its status: the state is "connecting" until it becomes
 * "up", "waiting", "degraded", "expired" or "failed".
 *
 * config is a JSON object; a missing field has the default of tunnel.Config (package
 * pkg/tunnel), an unknown one is an error of class "config":
 *   server          "user@host[:port]" or an alias of ssh_config, required; "tls://user@host[:443]"
 *                   where SSH is inside TLS
 *   name            the app's on a prepared proxy; default: the account's only one
 *   connections     links to hold; default 2, of which on a plain proxy one stands by
 *   key             path, text or base64 of a private key; default: the agent's, then ~/.ssh/id_*
 *   key_passphrase  of that key
 *   host_key        "SHA256:…", known_hosts line or file; default: the known_hosts files
 *   agent           socket of an ssh-agent; default: SSH_AUTH_SOCK; "none": no agent
 *   ssh_config      path of an ssh_config file; default: those of ssh; "none": no file
 *   jump            machines on the way, "user@host[:port],…"; default: ProxyJump; "none"
 *   via             egress proxy, "http://[user:password@]host:port", or https, socks5; default:
 *                   what environment says; "none"
 *   environment     {"HTTPS_PROXY":…,"ALL_PROXY":…,"NO_PROXY":…,"SSL_CERT_FILE":…}, or in lower
 *                   case, in place of the process's variables, of which Go knows only those that
 *                   it began with
 *   remote          TCP port on a plain proxy's 127.0.0.1, or path of a unix socket; default: what a
 *                   prepared proxy says of itself, else 8080; a port of an ssh line comes before these
 *   url             what visitors open; default: what the proxy says, else http://HOST/
 *   check           who asks before it is "up" whether url leads here: "url" (this machine alone), "link" (the
 *                   proxy alone), "off"; default: this machine, or where it does not get there, the proxy
 *   target          "host:port" of the app; "" (default): no app yet, state "waiting"
 *   access          "token" (default), "public", or {"user":"password",…}
 *   token           at least 128 bits; default: derived from the key that logs in
 *   token_version   derived into the token; default 1
 *   expires         when the token ends, RFC 3339; default: never
 *   allow           networks of visitors; needs a proxy that tells their address
 *   raw             true: bytes of any kind; only with "public"
 * timeout_ms bounds the set-up: a transient error is retried until then. 1 to 3600000. */
int64_t tt_expose(const char *config, int32_t timeout_ms);

/* Tells the tunnel where the app listens now: "host:port", or "" for nowhere. Connections
 * from now on go there; open ones stay. Returns 0. */
int32_t tt_set_target(int64_t handle, const char *target);

/* Says that the host's process is alive. Once called, call it again within 5 s, or visitors
 * who load a page are told that the app is busy. Returns 0. */
int32_t tt_tick(int64_t handle);

/* What visitors open, a JSON string: the status's url, with the token that admits them where
 * there is one. For the owner's eyes, not for logs. */
int32_t tt_url(int64_t handle, char *buf, size_t len);

/* Makes another token, at random, and forgets the present one. Returns 0; TT_ARGUMENT if the
 * tunnel is not open yet, has no token, or has "expired": another token would have the same end. */
int32_t tt_new_token(int64_t handle);

/* The newest n requests that visitors made, oldest first, a JSON array; at most 1000 are kept:
 *   {"time":…,"visitor":…,"method":…,"path":…,"status":…,"seconds":…,"received":…,"sent":…,
 *    "client":…}
 * without query strings and credentials. */
int32_t tt_requests(int64_t handle, int32_t n, char *buf, size_t len);

/* Gives up the present link and makes a new one at once; revives a tunnel that has failed. Returns 0;
 * 1 if the tunnel has ended for good: the question "tunnel.reopen" opens another in its place, or
 * tt_expose() where the set-up has failed. */
int32_t tt_reconnect(int64_t handle);

/* The status, a JSON object:
 *   state       "connecting" | "waiting" | "up" | "degraded" | "expired" | "reconnecting" |
 *               "replaced" | "failed" | "closed"; "expired": the token has ended, and visitors are
 *               refused until the tunnel has one that ends later
 *   url         what visitors open
 *   server      "user@host:port", or "tls://user@host:port"
 *   remote      port on the proxy, or path of the unix socket there
 *   name        the app's on a prepared proxy, "" on a plain one
 *   target      where the app listens now, "" if nowhere
 *   checked     how the URL was seen to lead here: "url" (opened from this machine),
 *               "link" (through the link to the proxy's own port), "" (could not be checked)
 *   unchecked   why it could not be, or was not to be, in a few words; "" where it was
 *   links       SSH connections that serve visitors, or stand by to
 *   slots       listening ends on the proxy
 *   access      "token", "password" or "public"; "" if nobody is asked (raw)
 *   token_kept  the token is the same after a restart
 *   expires     when the token ends, seconds since 1970; 0 never
 *   visitors    visitors who were admitted and are there now; with raw, connections that are open
 *   visitors_today  since midnight, UTC
 *   requests, refused, failed, slow   requests so far; of them refused by the gate for want of access,
 *               failed with a status of 500 or more, slow: after more than a second
 *   bytes       carried both ways since the start
 *   reconnects  links that took the place of another
 *   since       when the present state began, seconds since 1970 (a float)
 *   retry_at    when the next attempt is made, seconds since 1970; 0 unless "reconnecting"
 *   last_error  null, or {"class":…,"op":…,"message":…,"hint":…}; class is one of
 *               "config" "host_key" "auth" "forward" "unreachable" "hop" "app" "limit" (no
 *               file descriptors left here) "workspace" "closed" "internal"
 *   warning     what the proxy's admin should mend although visitors are served, such as that an older
 *               version has prepared it: as last_error */
int32_t tt_status(int64_t handle, char *buf, size_t len);

/* Begins to close: no new connection is taken, open ones get drain_ms to end (0: none), websockets
 * at most 2 s of it, then the link ends. Returns 0 at once; the state becomes "closed" within drain_ms + 500. */
int32_t tt_close(int64_t handle, int32_t drain_ms);

/* Forgets the handle; closes the tunnel first (no drain) if that was not done, and gives up a
 * question that has no answer yet. Returns 0. */
int32_t tt_release(int64_t handle);

/* Asks something that takes longer than a call may, and returns a handle (> 0) at once, or a number
 * below 0. An event of type "answer" tells when tt_answer() has it; tt_release() ends it.
 *
 * question is a JSON object, {"ask":NAME,…}; a wrong one shows in the answer, as an error of class
 * "config". In those of a Databricks workspace host and token say where it is and how to log in
 * there; without both, profile, or the environment and ~/.databrickscfg as Databricks' own tools
 * read them. Errors of the workspace are of class "workspace".
 *   "databricks.secrets"  scope, keys (a list): an object of those keys that the scope has, and
 *                         their values; null if there is no such scope
 *   "databricks.secret"   scope, key: the value
 *   "databricks.cluster"  cluster_id: {"id","name","state","access_mode","autotermination_minutes"};
 *                         access_mode is "dedicated" "standard" "none" "legacy" or "", state
 *                         "running" "pending" "terminating" …, 0 minutes never
 *   "databricks.me"       {"id","name"} of the user
 *   "tunnel.identity"     config (as tt_expose's): {"server","slot"}, equal for two configurations of the same
 *                         tunnel, however the server is written; sends nothing
 *   "tunnel.verify"       handle: asks again whether the URL of that tunnel leads to it, as its check says; the status
 *                         tells what was seen: null
 *   "tunnel.doctor"       handle: [{"step":"app|link|exposure|url|visitor","ok":true,"warn":false,
 *                         "seen":…,"hint":…},…], what is seen along the chain of that tunnel, what a
 *                         visitor gets, and what to do; "exposure" is of a plain proxy's port
 *   "tunnel.admit"        handle, config (as tt_expose's): has the gate of that open tunnel admit whom config
 *                         says (access, token, token_version, expires, allow), at once and without the
 *                         network: {"changed":[names of these that differed],"reopen":bool}; reopen says that
 *                         anything else differs, or that the tunnel serves nobody any more. All of config
 *                         is validated first: after an error nothing has changed
 *   "tunnel.reopen"       handle, config: opens a tunnel with config in the place of that open one, which
 *                         keeps its handle and serves until the new one stands, and after an error; tt_release()
 *                         before it is done gives the new one up: null
 *   "apps.near"           never (a list of ports that are not asked): web apps that this user has near this
 *                         process, the nearest first, each asked for "/" once: [{"addr","pid","program",
 *                         "here","below"},…]; addr is one for target, here: of this process, below: of one
 *                         that it has started
 *   "command"             args (the words of a command line of taipy-tunnel, without its name), environment (the
 *                         variables TAIPY_TUNNEL_… that it has), terminal (true: a person looks on), and optionally
 *                         host and token of the workspace to ask: what the command ends with, 0, 1, 2 or 130. Its
 *                         events are said meanwhile, each as a line of JSON: {"kind","text","hint","rows"}, as
 *                         package pkg/command has them, or {"kind":"input"} where it wants all of standard input.
 *                         tt_release() before it is done gives it up, as Ctrl-C does
 *   "command.answer"      handle, text: what such an event wants: null
 * timeout_ms bounds the work, 1 to 3600000, or 0: nothing does, for a command; each request to a workspace ends within 9 s besides. */
int64_t tt_ask(const char *question, int32_t timeout_ms);

/* The answer, a JSON object: {"done":false} until there is one, then {"done":true,"value":…} or
 * {"done":true,"error":{"class":…,"op":…,"message":…,"hint":…}}. In each there may be "said", a list of
 * lines that the work has said since they were last taken, oldest first, at most 256: the
 * work waits until they are taken. An event of type "answer" tells that there are some. It may
 * hold secrets: wipe buf. */
int32_t tt_answer(int64_t handle, char *buf, size_t len);

/* The eventfd (close-on-exec, non-blocking) that becomes readable when tt_events() has
 * something. One for the whole library; never close it. */
int32_t tt_event_fd(void);

/* Takes what happened since the last call, oldest first, as a JSON array:
 *   {"handle":1,"type":"status"}       ask tt_status(); repeats are folded
 *   {"handle":2,"type":"answer"}       ask tt_answer(): it is done, or has said something
 *   {"handle":1,"type":"log","time":…,"level":"debug|info|warning|error","message":…,
 *    "hint":…}, the hint only where there is one
 * At most 1024 records are kept; older ones give way and the next record carries their
 * number as "lost". Only whole records are taken, as many as fit in len. Returns 2 ("[]")
 * when there are none. */
int32_t tt_events(char *buf, size_t len);

#ifdef __cplusplus
}
#endif
#endif
