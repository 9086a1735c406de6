// SPDX-License-Identifier: Apache-2.0

package proxyhost

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed templates
var templates embed.FS

// File is one that the machine needs. All belong to root and are readable by everybody: none holds a secret.
type File struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// Files are all of a machine, sorted by path.
type Files []File

// Text returns the text of the file at path; "" if there is none.
func (f Files) Text(path string) string {
	for _, file := range f {
		if file.Path == path {
			return file.Text
		}
	}
	return ""
}

// Render gives the files of a machine, or says what of h cannot be used.
func Render(h Host) (Files, error) {
	p, err := prepare(h)
	if err != nil {
		return nil, err
	}
	return p.files()
}

func (p *plan) files() (Files, error) {
	etc := p.Layout.Etc
	var files Files
	for path, name := range map[string]string{p.Layout.SSHD: "sshd.conf", p.Layout.Site: "site.conf", p.Layout.Tmpfiles: "tmpfiles.conf",
		p.Layout.Limits: "limits.conf", p.Layout.Unit: "stale.service", etc + "/stale.sh": "stale.sh", etc + "/nginx/listen.conf": "listen.conf", etc + "/nginx/server.conf": "server.conf",
		etc + "/away.html": "away.html", etc + "/status.html": "status.html"} {
		if name == "status.html" && p.Status.Port == 0 {
			continue
		}
		text, err := p.fill(name, p)
		if err != nil {
			return nil, err
		}
		files = append(files, File{path, text})
	}
	for _, t := range p.Tenants {
		for kind, lines := range map[string][]string{"keys": t.Keys, "ca": t.UserCA, "principals": t.Principals, "revoked": t.Revoked} {
			if len(lines) == 0 && kind != "keys" {
				continue
			}
			options := ""
			if kind == "keys" || kind == "principals" {
				options = "restrict,port-forwarding "
			}
			var text strings.Builder
			for _, line := range lines {
				text.WriteString(options + line + "\n")
			}
			files = append(files, File{etc + "/" + kind + "/" + t.Name, text.String()})
		}
		files = append(files, File{etc + "/proxy/" + t.Name + ".json", p.description(t)})
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// fill fills one template. They are read here and not when the program starts, for most
// programs that import this package render nothing.
func (p *plan) fill(name string, data any) (string, error) {
	t, err := template.New(name).Funcs(template.FuncMap{
		"odd":  func(n int) bool { return n%2 == 1 },
		"join": strings.Join,
	}).Option("missingkey=error").ParseFS(templates, "templates/"+name)
	if err != nil {
		return "", fmt.Errorf("template %s: %w", name, err)
	}
	var text bytes.Buffer
	if err := t.Execute(&text, data); err != nil {
		return "", fmt.Errorf("template %s: %w", name, err)
	}
	return text.String(), nil
}

// RepeatWithin is how old a request may be for nginx to send it to another link, if it may not run
// twice: the tunnel has to know it still. It is ten to some power, for nginx compares text. A link that
// went silent is ended by stale.sh within 5 s; where that does not run by sshd, after 62 s (9.2, ClientAliveInterval 1,
// ClientAliveCountMax 30).
const RepeatWithin = 100 * time.Second

// Late is a pattern of whole seconds from RepeatWithin on.
func (p *plan) Late() string {
	return fmt.Sprintf("[0-9]{%d,}", len(strconv.Itoa(int(RepeatWithin.Seconds()))))
}

// Begun is the page of a request that may have run, and is not sent again.
func (p *plan) Begun() (string, error) {
	page, err := templates.ReadFile("templates/begun.html")
	return strings.ReplaceAll(string(page), "\n", ""), err
}

// Users is the list of sshd's Match User.
func (p *plan) Users() string {
	var names []string
	for _, t := range p.Tenants {
		names = append(names, t.Name)
	}
	return strings.Join(names, ",")
}

// ManyNames reports whether nginx has to be told that there are many or long ones. Only then, for
// it takes that setting once, and nginx.conf may have it.
func (p *plan) ManyNames() bool {
	return len(p.Names) > 60 || slices.ContainsFunc(p.Names, func(name string) bool { return len(name) > 40 })
}

// Certificate is where nginx finds it. That of certbot is a link, which leads to a self-signed one
// until there is another.
func (p *plan) Certificate() string {
	if p.TLS.Mode == "files" {
		return p.TLS.Certificate
	}
	return p.Layout.Etc + "/tls/certificate.pem"
}

// CertificateKey is where nginx finds the certificate's key.
func (p *plan) CertificateKey() string {
	if p.TLS.Mode == "files" {
		return p.TLS.Key
	}
	return p.Layout.Etc + "/tls/key.pem"
}

// OwnCertificate reports whether the script makes a self-signed one.
func (p *plan) OwnCertificate() bool { return p.TLS.Mode == "self-signed" || p.TLS.Mode == "certbot" }

// StatusAccess is who sees the status page.
func (p *plan) StatusAccess() Access {
	return Access{BasicAuth: p.Status.BasicAuth, Allow: p.Status.Allow}
}

// IdentityVariable is nginx's name of the header that says who a visitor is.
func (a Access) IdentityVariable() string {
	return "$upstream_http_" + strings.ReplaceAll(strings.ToLower(a.Identity), "-", "_")
}

// description is what the tenant reads: one app on each line, so that the script sees which are gone.
func (p *plan) description(t *tenant) string {
	d := Description{Version: descriptionVersion, Tenant: t.Name, Check: fmt.Sprintf("127.0.0.1:%d", t.CheckPort), CheckSlots: true, EndsStale: true,
		RepeatWithin: int(RepeatWithin.Seconds())}
	var lines []string
	for _, s := range t.Sites {
		for _, a := range s.Apps {
			if s.Self {
				d.SelfService = &SelfService{URL: a.URL, Slots: a.Slots}
				continue
			}
			lines = append(lines, line(App{Name: a.Name, URL: a.URL, Slots: a.Slots}))
		}
	}
	slices.Sort(lines)
	text := fmt.Sprintf("{\"version\": %d, \"tenant\": %s, \"check\": %s, \"check_slots\": %t, \"ends_stale\": %t, \"repeat_within\": %d,\n",
		d.Version, line(d.Tenant), line(d.Check), d.CheckSlots, d.EndsStale, d.RepeatWithin)
	if d.SelfService != nil {
		text += "\"self_service\": " + line(d.SelfService) + ",\n"
	}
	return text + "\"apps\": [\n" + strings.Join(lines, ",\n") + "\n]}\n"
}

func line(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "null" // no value here has anything that JSON has not
	}
	return string(text)
}
