// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"time"
)

// The Databricks workspace. host is "name" or "name:port"; said is the workspace's own answer, code
// and words. None of these ever holds a token or the value of a secret.

func workspace(permanent bool, err error, hint Hint) *Error {
	return &Error{Op: "workspace", Err: err, Hint: hint, Class: ErrWorkspace, Permanent: permanent}
}

// WorkspaceUnreachable: no connection, or one that broke off.
func WorkspaceUnreachable(host string, err error) *Error {
	return workspace(false, fmt.Errorf("no connection to %s: %w", host, Reason(err)),
		"check the workspace's address and the way there from this machine (a firewall, HTTPS_PROXY)")
}

// WorkspaceSilent: it was asked and did not answer in time.
func WorkspaceSilent(host string, waited time.Duration, err error) *Error {
	return workspace(false, fmt.Errorf("no answer from %s within %v: %w", host, waited.Round(100*time.Millisecond), err),
		"check the workspace's address and the way there from this machine (a firewall, HTTPS_PROXY)")
}

// WorkspaceBusy: it cannot answer now, nor could it when it was asked again.
func WorkspaceBusy(host, said string) *Error {
	return workspace(false, fmt.Errorf("%s does not answer for now: %s", host, said), "try again in a minute")
}

// NotWorkspace: something else answers at that address. what says how: "a web page", …
func NotWorkspace(host, what string) *Error {
	return workspace(true, fmt.Errorf("%s is not a Databricks workspace's interface: it answers %s", host, what),
		"give the address that the browser shows for the workspace, https://….databricks.com or https://adb-….azuredatabricks.net; "+
			"where private access is set up, only its own networks reach it")
}

// TokenRefused: the workspace does not know the token, or not from this network.
func TokenRefused(host, said string) *Error {
	return workspace(true, fmt.Errorf("%s refuses the token: %s", host, said),
		"the token has ended, was revoked or belongs to another workspace; a notebook's own lasts about an hour and is made again when its cell is run; "+
			"an IP access list of the workspace may keep this machine out too")
}

// NoToken: there was nothing to log in with; err comes from whoever was to give the token.
func NoToken(err error) *Error {
	return workspace(false, fmt.Errorf("no token for the workspace: %w", err), "run the cell again")
}

// NoScope: the secret scope is not there.
func NoScope(scope, said string) *Error {
	return &Error{Op: "secret scope", Class: ErrWorkspace, Permanent: true,
		Err:  fmt.Errorf("%w %s in this workspace: %s", ErrNoScope, Quote(scope), said),
		Hint: "an administrator makes it once: taipy-tunnel databricks store --server … --host-key …"}
}

// NoSecret: the scope or the key is not there; the workspace does not always tell which.
func NoSecret(scope, key, said string) *Error {
	return &Error{Op: "secret", Class: ErrWorkspace, Permanent: true,
		Err:  fmt.Errorf("there is no secret %s in scope %s: %s", Quote(key), Quote(scope), said),
		Hint: Hintf("check both names: databricks secrets list-secrets %s", word(scope, "SCOPE"))}
}

// NoRead: the scope is there and not for this user.
func NoRead(scope, said string) *Error {
	return &Error{Op: "secret scope", Class: ErrWorkspace, Permanent: true,
		Err:  fmt.Errorf("no permission to read secret scope %s: %s", Quote(scope), said),
		Hint: Hintf("who made the scope gives it: databricks secrets put-acl %s USER-OR-GROUP READ", word(scope, "SCOPE"))}
}

// NoManage: the scope may not be made or changed by this user.
func NoManage(scope, said string) *Error {
	return &Error{Op: "secret scope", Class: ErrWorkspace, Permanent: true,
		Err: fmt.Errorf("no permission to make or change secret scope %s: %s", Quote(scope), said),
		Hint: Hintf("who made the scope gives it: databricks secrets put-acl %s USER-OR-GROUP MANAGE; or take another name: --scope; "+
			"the workspace may let only its administrators make scopes", word(scope, "SCOPE"))}
}

// VaultScope: the scope is that of an Azure Key Vault, which Databricks reads and does not write.
func VaultScope(scope string) *Error {
	return &Error{Op: "secret scope", Class: ErrWorkspace, Permanent: true,
		Err: fmt.Errorf("secret scope %s is that of an Azure Key Vault: Databricks reads it, and cannot write to it", Quote(scope)),
		Hint: Hintf("write to the vault itself, where names have a hyphen for an underscore: az keyvault secret set --vault-name VAULT "+
			"--name server --value USER@HOST, then the same with --name host-key --value SHA256:… and with --name key --file PRIVATE-KEY, "+
			"which ssh-keygen -t ed25519 -f PRIVATE-KEY makes; and databricks secrets put-acl %s GROUP READ", word(scope, "SCOPE"))}
}

// NotesOnly: the workspace hands the values of secrets to code that runs in it only.
func NotesOnly(scope, key, said string) *Error {
	return &Error{Op: "secret", Class: ErrWorkspace, Permanent: true,
		Err:  fmt.Errorf("the workspace does not give out secret %s of scope %s here: %s", Quote(key), Quote(scope), said),
		Hint: Hintf("some workspaces give secrets to notebooks only; there: dbutils.secrets.get(%q, %q)", word(scope, "SCOPE"), word(key, "KEY"))}
}

// NoCluster: no such cluster, or not for this user.
func NoCluster(id, said string) *Error {
	return workspace(true, fmt.Errorf("nothing can be learned of cluster %s: %s", Quote(id), said),
		"check its id; who made the cluster lets others attach to it")
}

// WorkspaceRefused: any other refusal.
func WorkspaceRefused(host, said string) *Error {
	return workspace(true, fmt.Errorf("%s refuses: %s", host, said), "")
}

// NoWorkspace: it is not known where the workspace is, or how to log in there. The reason is left
// out: it may quote a line of the file that holds the token.
func NoWorkspace(profile string) *Error {
	where := "neither the DATABRICKS_… variables nor ~/.databrickscfg tell where the workspace is and how to log in there"
	check := "databricks auth describe"
	if profile != "" {
		where = fmt.Sprintf("profile %s of ~/.databrickscfg does not tell where the workspace is and how to log in there", Quote(profile))
		check += " --profile " + word(profile, "PROFILE")
	}
	return workspace(true, errors.New(where), Hintf("log in once: databricks auth login --host https://…; what is known shows: %s", check))
}
