package unsubscribe

import (
	"bytes"
	"errors"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"

	"heed/policy"
)

// wish is what a POST asks for.
type wish struct {
	via   string
	scope policy.Scope // "" for a one-click: the sealed one
	undo  bool
}

var errWish = errors.New("the body asks for nothing that is known here")

// readWish reads a POST's body: List-Unsubscribe=One-Click (RFC 8058 section 3.2), or the page's scope or undo, and
// exactly one of these. Other fields are ignored. The query string has no say.
func readWish(contentType string, body []byte) (wish, error) {
	fields, err := readForm(contentType, body)
	if err != nil {
		return wish{}, err
	}
	oneClick, scope, undo := fields["List-Unsubscribe"], fields["scope"], fields["undo"]
	if len(oneClick)+len(scope)+len(undo) != 1 {
		return wish{}, errWish
	}
	switch {
	case len(oneClick) == 1 && strings.TrimSpace(oneClick[0]) == "One-Click": // QUIRK: some append a line break
		return wish{via: viaOneClick}, nil
	case len(undo) == 1 && undo[0] == "1":
		return wish{via: viaPage, undo: true}, nil
	case len(scope) == 1:
		switch s := policy.Scope(scope[0]); s {
		case policy.ScopeTopic, policy.ScopeSender, policy.ScopeAll:
			return wish{via: viaPage, scope: s}, nil
		}
	}
	return wish{}, errWish
}

func readForm(contentType string, body []byte) (url.Values, error) {
	if contentType == "" { // QUIRK: not every client names it
		contentType = "application/x-www-form-urlencoded"
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, err
	}
	switch media {
	case "application/x-www-form-urlencoded":
		return url.ParseQuery(string(body))
	case "multipart/form-data":
		// The whole body is smaller than what ReadForm keeps in memory: it writes no files.
		form, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).ReadForm(maxBody)
		if err != nil {
			return nil, err
		}
		return form.Value, nil
	}
	return nil, errWish
}
