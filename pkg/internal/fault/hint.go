// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

// Hint says what to do. A setting in it is a mark with the setting's name in Config's JSON, and perhaps a value,
// as in JSON too. Whoever shows a hint writes the setting as its reader would:
//
//	a mark                  in Go                        in Python              on the command line
//	{host_key}              Config.HostKey               host_key=              --host-key
//	{url="https://host/"}   Config.URL = "https://…"     url="https://host/"    --url https://host/
//
// In Go that is String, so fmt and log/slog print Go's words. JSON has the marks, for Python
// (python/taipy_tunnel/_hints.py). A brace that is no mark's is written twice. A hint is a constant or comes from
// Hintf, which sees to that: nothing that was given to a program is ever read as a mark.
type Hint string

// Hintf is a hint with something filled in, in which braces mean nothing, but for a Hint's marks.
func Hintf(format string, args ...any) Hint {
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = doubled.Replace(arg)
		case Hint:
			args[i] = string(arg) // not String's words
		}
	}
	return Hint(fmt.Sprintf(format, args...))
}

// String is the hint in Go's words.
func (h Hint) String() string { return h.In(inGo) }

// In is the hint with its settings in the words of setting, which gets the value as in JSON, or "".
func (h Hint) In(setting func(name, value string) string) string {
	return marks.ReplaceAllStringFunc(string(h), func(mark string) string {
		name, value, _ := strings.Cut(mark[1:len(mark)-1], "=")
		switch {
		case mark == "{{" || mark == "}}":
			return mark[1:]
		case fields[name] == "":
			return mark
		}
		return setting(name, single.Replace(value))
	})
}

// InPython is a setting as an argument of expose(), for In.
func InPython(name, value string) string {
	if name == "target" {
		name = "app"
	}
	if value == "true" || value == "false" {
		value = strings.ToUpper(value[:1]) + value[1:]
	}
	return name + "=" + value
}

// LogValue has every log of Go's show the words of String.
func (h Hint) LogValue() slog.Value { return slog.StringValue(h.String()) }

var (
	marks   = regexp.MustCompile(`\{\{|\}\}|\{[a-z_]+(?:=(?:[^{}]|\{\{|\}\})+)?\}`)
	doubled = strings.NewReplacer("{", "{{", "}", "}}")
	single  = strings.NewReplacer("{{", "{", "}}", "}")
)

// fields are the settings as a program in Go has them. Only the time for the set-up is no field of Config.
var fields = map[string]string{
	"server": "Config.Server", "name": "Config.Name", "connections": "Config.Connections",
	"key": "Config.Key", "key_passphrase": "Config.KeyPassphrase", "host_key": "Config.HostKey",
	"agent": "Config.Agent", "ssh_config": "Config.SSHConfig", "jump": "Config.Jump", "via": "Config.Via",
	"environment": "Config.Environment", "remote": "Config.Remote", "url": "Config.URL", "check": "Config.Check", "target": "Config.Target",
	"access": "Config.Access", "token": "Config.Token", "token_version": "Config.TokenVersion",
	"expires": "Config.Expires", "allow": "Config.Allow", "raw": "Config.Raw",
	"timeout": "the deadline of the context",
}

// inGo is a setting in Go, with a value as an assignment would have it.
func inGo(name, value string) string {
	field := fields[name]
	switch {
	case value == "":
		return field
	case name == "server", name == "allow":
		value = "[]string{" + strings.Trim(value, "[]") + "}"
	case name == "remote" && value[0] == '"':
		field = "Config.RemoteSocket"
	case name == "access" && value == `"public"`:
		value = "tunnel.Access{Public: true}"
	case name == "access" && value == `"token"`:
		value = "tunnel.Access{}"
	case name == "access":
		value = "tunnel.Access{Passwords: map[string]string" + value + "}"
	}
	return field + " = " + value
}
