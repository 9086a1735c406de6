// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// Kinds of pages in the place of an answer.
const (
	pageRepeated = "repeated"
	pageEnded    = "ended"
	pageFull     = "full"
	pageCrowded  = "crowded"
	pageBroken   = "broken"
	pageHead     = "head"
	pageSite     = "site"
	pageOrigin   = "origin"
	pageHidden   = "hidden"
)

// page is one of the gate's own pages.
type page struct {
	Kind   string // key of pageWords
	Own    string // the gate's own address; with it the page hands over the token of its fragment
	Again  string // seconds until it asks again, "" for never
	Nonce  string
	Secure bool  // the cookie is for https alone
	Names  []any // that its text names
}

// pageWords are title and text of each page.
var pageWords = map[string][2]string{
	"token":    {"This app is private", "Open it with the whole link that its owner sent you, up to the last character. If you have none, ask the owner for it."},
	"expired":  {"This link has expired", "Ask the owner of the app for a new one."},
	"password": {"This app is private", "Its owner can tell you the user name and the password."},
	"guessing": {"Too many wrong passwords", "Try again in a minute."},
	"address":  {"This app is not open to your network", "Its owner named the networks from which it may be opened."},
	"method":   {"This method is not passed on", "CONNECT and TRACE are not for apps."},

	pageSite: {"Another site sent this request", "The app takes requests that change something from its own pages only."},
	pageHidden: {"It is not known which page sent this", "The app takes requests that change something from its own pages only, and the browser does not say whose page this is, as where " +
		"that says \"Referrer-Policy: no-referrer\" or is in a sandboxed frame. The owner of the app can change that, or have the link begin with https://, where browsers say more."},
	pageOrigin: {"The addresses do not agree", "This comes from a page of %s, and the web server in front of the app says that it was sent to %s. If you opened the app at the first of these, tell its owner: nginx needs \"proxy_set_header Host $http_host;\", and url= is to be what visitors open."},

	pageRepeated: {"This may have been done already", "The connection to the app broke before its answer came. What you asked for may have run, so it is not repeated. Open the app again to see what it did."},
	pageEnded:    {"The app was stopped before it answered", "What you asked for may have run, so it is not repeated. Open the app again to see what it did."},
	pageFull:     {"Too much at once", "Nothing of this request was done, for more come than the app can take. Send it again in a minute."},
	pageCrowded:  {"Too many uploads at once", "The app is busy with others, and yours was not begun. Send it again in a few seconds."},
	pageBroken:   {"The app broke off its answer", "It closed the connection before it had answered. Reload the page; if this happens again, its owner can see why in the notebook."},
	pageHead:     {"The app's answer cannot be passed on", "Its headers, cookies among them, are larger than the proxy takes. The owner of the app sees in the notebook which answer it was."},

	awayNotStarted: {"The app is starting", "This page opens it as soon as it answers. There is nothing to do."},
	awayRestarting: {"The app is restarting", "This page opens it as soon as it answers again. There is nothing to do."},
	awayStopped:    {"The app was stopped", "Its notebook is still there. This page opens the app as soon as its owner starts it again."},
	awayBusy:       {"The app is busy", "Its notebook is computing and answers nobody meanwhile. This page opens the app as soon as that is over."},
}

// Why is the header in which an answer of the gate's own says its kind: "token", "expired", "address", "restarting", …
const Why = "X-Taipy-Tunnel-Why"

// Says is the title of the gate's own page of a kind; "" if there is none.
func Says(kind string) string { return pageWords[kind][0] }

// Title is the page's.
func (p page) Title() string { return Says(p.Kind) }

// Text is the page's.
func (p page) Text() string { return fmt.Sprintf(pageWords[p.Kind][1], p.Names...) }

// private has nobody keep an answer, or tell others where it was found.
func private(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex")
}

// refuse answers with a page of the gate's own, in words alone where no browser asked for a page.
func refuse(w http.ResponseWriter, r *http.Request, status int, p page) {
	h := w.Header()
	private(h)
	h.Set(Why, p.Kind)
	var body bytes.Buffer
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		p.Nonce = rand.Text()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; style-src 'nonce-%s'; script-src 'nonce-%s'; connect-src 'self'; base-uri 'none'; frame-ancestors 'self'", p.Nonce, p.Nonce))
		if err := pageTemplate.Execute(&body, p); err != nil {
			panic(err) // of an embedded template
		}
	} else {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(&body, "%s. %s\n", p.Title(), p.Text())
		if p.Own != "" {
			body.WriteString("Programs send the header \"Authorization: Bearer TOKEN\".\n")
		}
	}
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	if isLarge(r) {
		_ = http.NewResponseController(w).EnableFullDuplex() // or net/http reads the request's body before it answers
		h.Set("Connection", "close")
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body.Bytes())
	}
}
