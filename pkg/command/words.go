// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taipy-tunnel/taipy-tunnel/pkg/internal/fault"
)

// passphrase is the variable that opens a key: it has no option, for whoever lists the processes of a machine sees those.
var passphrase = variable("key_passphrase")

// words writes the settings of hints as those of a command: an option or an argument, where it has one; otherwise as an argument of
// expose(). value is as in JSON, "" for none.
func words(c *cobra.Command) func(name, value string) string {
	return func(name, value string) string {
		word := plainly(value)
		if value != "" {
			word = fault.ShellWord(word)
		}
		option := strings.ReplaceAll(name, "_", "-")
		f := c.Flags().Lookup(option)
		if name == "target" && f == nil {
			f = c.Flags().Lookup("app") // as Python's expose() calls it
		}
		switch {
		case f != nil && f.Value.Type() == "bool":
			return "--" + option
		case f != nil && strings.HasPrefix(value, "{"): // users and passwords, which no option takes
			return variable(name) + "=" + word
		case f != nil:
			return strings.TrimSpace("--" + f.Name + " " + word)
		case c.Annotations[name] != "" && value != "":
			return word
		case c.Annotations[name] != "":
			return c.Annotations[name]
		case name == "key_passphrase", c.Annotations[inVariables] != "":
			return variable(name)
		}
		return fault.InPython(name, value)
	}
}

// plainly is a value as a command line has it: a list with commas, users and their passwords as "user:password,…".
func plainly(value string) string {
	var text string
	var list []string
	var users map[string]string
	switch {
	case json.Unmarshal([]byte(value), &text) == nil:
		return text
	case json.Unmarshal([]byte(value), &list) == nil:
		return strings.Join(list, ",")
	case json.Unmarshal([]byte(value), &users) == nil:
		for user, password := range users {
			list = append(list, user+":"+password)
		}
		slices.Sort(list)
		return strings.Join(list, ",")
	}
	return value
}

// usageError is a command line that is not understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// optionError is pflag's error in words that repeat nothing that may be a secret.
func optionError(c *cobra.Command, err error) error {
	if e, is := errors.AsType[*pflag.NotExistError](err); is {
		if short := e.GetSpecifiedShortnames(); short != "" {
			return &usageError{"there is no such option as " + fault.Quote("-"+short)}
		}
		return &usageError{"there is no option " + fault.Quote("--"+e.GetSpecifiedName()) + didYouMean(optionsLike(c, e.GetSpecifiedName()))}
	}
	if e, is := errors.AsType[*pflag.ValueRequiredError](err); is {
		return &usageError{fmt.Sprintf("--%s wants a value: %s", e.GetFlag().Name, usageOf(e.GetFlag()))}
	}
	if e, is := errors.AsType[*pflag.InvalidValueError](err); is {
		return &usageError{fmt.Sprintf("--%s takes true or false, or nothing, and not %s", e.GetFlag().Name, fault.Quote(e.GetValue()))} // all others are texts
	}
	if e, is := errors.AsType[*pflag.InvalidSyntaxError](err); is {
		return &usageError{fault.Quote(e.GetSpecifiedFlag()) + " is no option"}
	}
	return err
}

// takes has a command take arguments: each the setting of expose() that it is, "" for one that is none, and its name in the help.
func takes(c *cobra.Command, settings ...[2]string) *cobra.Command {
	paragraphs := strings.Split(c.Long, "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = Wrap(p, helpWidth, "", "")
	}
	c.Long = strings.Join(paragraphs, "\n\n")
	c.Annotations = map[string]string{}
	for _, s := range settings {
		c.Use += " " + s[1]
		c.Annotations[s[0]] = s[1]
	}
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) < len(settings) {
			return &usageError{settings[len(args)][1] + " is missing"}
		}
		if len(args) > len(settings) {
			return &usageError{"there is an argument more than the command takes: " + fault.Quote(args[len(settings)])}
		}
		return nil
	}
	return c
}

// wants has a command refuse to go without options, by name.
func wants(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := c.Flags().Lookup(name); !f.Changed || f.Value.String() == "" {
			return &usageError{fmt.Sprintf("--%s is missing: %s", name, usageOf(f))}
		}
	}
	return nil
}

// usageOf is what an option is, without the marks of its value's name.
func usageOf(f *pflag.Flag) string {
	_, usage := pflag.UnquoteUsage(f)
	return usage
}

// optionsLike are the options that begin as a word does, or as which it begins.
func optionsLike(c *cobra.Command, word string) (names []string) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if word != "" && (strings.HasPrefix(f.Name, word) || strings.HasPrefix(word, f.Name)) {
			names = append(names, "--"+f.Name)
		}
	})
	return names
}

func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(names, " or ") + "?"
}
