package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"heed/policy"
)

func (b *bench) ask(body string) *httptest.ResponseRecorder {
	return b.do("POST", "/api/v1/check", body, "Content-Type", "application/json")
}

func TestCheckGolden(t *testing.T) {
	b := newBench("")
	b.oracle.decisions = []policy.Decision{
		{
			Recipient: "a@b.de", Action: policy.Block, Enforced: true, Code: policy.CodeConsentMissing, Text: "no consent & no <purchase>",
			Checks: []policy.Check{
				{Code: "optout", Passed: true, Text: "no opt-out", Citation: "GDPR Art. 21(2)"},
				{Code: policy.CodeConsentMissing, Text: "no consent", Citation: "UWG § 7(2) no. 2"},
			},
			Country: policy.CountrySignal{Code: "DE", From: "contact"}, AddressKind: policy.Individual, Party: policy.First,
			Regime: policy.DoubleOptIn, SoftOptIn: "permitted", LegalBasis: "none", Notices: []string{"identity", "objection"},
			Law: "UWG § 7", Rules: "guide@1",
		},
		{
			Recipient: "info@c.example", Action: policy.Allow, Enforced: true, Country: policy.CountrySignal{From: "none"},
			AddressKind: policy.Generic, Party: policy.Unknown, Regime: policy.OptIn, SoftOptIn: "not_permitted", LegalBasis: "not_required", Rules: "guide@1",
		},
	}
	w := b.ask(`{"account":"crm","recipients":["a@b.de","info@c.example"],"topic":"","product":"","country":"","at":""}`)
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	var got bytes.Buffer
	if err := json.Indent(&got, w.Body.Bytes(), "", "  "); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	want, err := os.ReadFile("testdata/check.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		if err := os.WriteFile("testdata/check.json.got", got.Bytes(), 0o600); err != nil {
			t.Error(err)
		}
		t.Errorf("differs from testdata/check.json, see check.json.got:\n%s", &got)
	}
}

func TestCheckReads(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 15, 0, 0, time.UTC)
	tests := []struct {
		name, body string
		want       policy.Inquiry
	}{
		{"least", `{"account":"crm","recipients":["a@b.de"]}`, policy.Inquiry{Account: "crm", Recipients: []string{"a@b.de"}}},
		{
			"all", ` {"account":"crm","recipients":["a@b.de","c@d.fr"],"topic":"news","product":"crm","country":"DE","at":"2026-11-23T11:15:00+01:00"} ` + "\n",
			policy.Inquiry{Account: "crm", Recipients: []string{"a@b.de", "c@d.fr"}, Topic: "news", Product: "crm", Country: "DE", At: at},
		},
		{"nulls", `{"account":"crm","recipients":null,"topic":null,"at":null}`, policy.Inquiry{Account: "crm"}},
		{"escapes", `{"account":"c\u0072m","recipients":["\u00fc@b.de"]}`, policy.Inquiry{Account: "crm", Recipients: []string{"ü@b.de"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench("")
			w := b.ask(tt.body)
			if w.Code != 200 || w.Body.String() != "{\"decisions\":[]}\n" {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			got := b.oracle.asked[0]
			if !got.At.Equal(tt.want.At) {
				t.Errorf("at %v, want %v", got.At, tt.want.At)
			}
			got.At = tt.want.At
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	many := func(n int) string {
		return `{"account":"crm","recipients":["a@b.de"` + strings.Repeat(`,"a@b.de"`, n-1) + `]}`
	}
	tests := []struct {
		name, body string
		status     int
		want       string
	}{
		{"empty", ``, 400, "one JSON object"},
		{"not JSON", `account=crm`, 400, "one JSON object: invalid character 'a'"},
		{"a list", `[]`, 400, "array where an object is expected"},
		{"null", `null`, 400, "account: name one"},
		{"cut off", `{"account":"crm"`, 400, "one JSON object"},
		{"two objects", `{"account":"crm"}{}`, 400, "one JSON object"},
		{"unknown field", `{"account":"crm","recipient":["a@b.de"]}`, 400, `unknown field "recipient"; known are account, at, country, product, recipients, topic`},
		{"field in other case", `{"Account":"crm"}`, 400, `unknown field "Account"`},
		{"number for a string", `{"account":7}`, 400, "account: number where a string is expected"},
		{"string for a list", `{"account":"crm","recipients":"a@b.de"}`, 400, "recipients: string where a list of strings is expected"},
		{"number in the list", `{"account":"crm","recipients":["a@b.de",7]}`, 400, "recipients: number where a string is expected"},
		{"time as a number", `{"account":"crm","at":1700000000}`, 400, "at: number where a string is expected"},
		{"time of another kind", `{"account":"crm","at":"23.11.2026"}`, 400, `at: "23.11.2026" is not a time`},
		{"no account", `{"recipients":["a@b.de"]}`, 400, "account: name one"},
		{"too big", `{"account":"` + strings.Repeat("x", maxBody) + `"}`, 413, "8388608 bytes"},
		{"deep", strings.Repeat("[", 100_000), 400, "one JSON object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench("")
			w := b.ask(tt.body)
			_, message := reason(t, w)
			if w.Code != tt.status || !strings.Contains(message, tt.want) || strings.Contains(message, "policy.") || strings.Contains(message, "json:") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if len(b.oracle.asked) != 0 {
				t.Error("the check was made")
			}
		})
	}
	t.Run("10,000 recipients are taken", func(t *testing.T) {
		b := newBench("")
		if w := b.ask(many(policy.MaxInquiry)); w.Code != 200 || len(b.oracle.asked[0].Recipients) != policy.MaxInquiry {
			t.Errorf("%d", w.Code)
		}
	})
}

func TestCheckErrors(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		want   string
	}{
		{"bad input", policy.BadInquiry(`account: "x" is not configured`), 400, `account: "x" is not configured`},
		{"bad input, wrapped", fmt.Errorf("internal: %w", policy.BadInquiry("recipients[0]: no @")), 400, "recipients[0]: no @"},
		{"state down", errors.New("dial 10.0.0.7: refused"), 503, "try again"},
		{"too slow", context.DeadlineExceeded, 503, "try again"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench("")
			b.oracle.err = tt.err
			w := b.ask(`{"account":"crm","recipients":["a@b.de"]}`)
			_, message := reason(t, w)
			if w.Code != tt.status || !strings.Contains(message, tt.want) || strings.Contains(message, "10.0.0.7") || strings.Contains(message, "internal") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if (tt.status == 503) != strings.Contains(b.log.String(), "level=ERROR") {
				t.Errorf("log: %s", &b.log)
			}
		})
	}
}

func TestCheckWaitsForAPlace(t *testing.T) {
	b := newBench("")
	for range checksAtOnce {
		b.checks <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequest("POST", "/api/v1/check", strings.NewReader(`{"account":"crm"}`)).WithContext(ctx)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	if w.Code != 503 || len(b.oracle.asked) != 0 {
		t.Errorf("%d", w.Code)
	}
	<-b.checks
	if w := b.ask(`{"account":"crm","recipients":["a@b.de"]}`); w.Code != 200 || len(b.checks) != checksAtOnce-1 {
		t.Errorf("%d, %d places taken", w.Code, len(b.checks))
	}
}

func FuzzReadInquiry(f *testing.F) {
	f.Add([]byte(`{"account":"crm","recipients":["a@b.de"],"topic":"","product":"","country":"","at":"2026-11-23T10:15:00Z"}`))
	f.Add([]byte(`{"account":"crm","recipients":[null]}`))
	f.Add([]byte(`{"x":`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := readInquiry(body)
		if err == nil && q.Account == "" {
			t.Fatalf("%+v", q)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
	})
}
