package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// FuzzParse: no input makes it panic, show a secret of the environment, or accept what Print then cannot say again.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	broken, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, broken...) {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Add(Starter(Secrets{AccountPassword: "a", AdminToken: "b"}))
	f.Fuzz(func(t *testing.T, src []byte) {
		if bytes.Contains(src, []byte("file:")) || bytes.Contains(src, []byte("cert")) || len(src) > 16<<10 {
			t.Skip("would read files, or takes long")
		}
		c, err := Parse("gateway.yaml", src, testEnv)
		if err != nil {
			var e *Errors
			if !errors.As(err, &e) || len(e.Mistakes) == 0 || len(e.Mistakes) > maxMistakes {
				t.Fatalf("%T: %v", err, err)
			}
			if !bytes.Contains(src, []byte(hidden)) && strings.Contains(err.Error(), hidden) {
				t.Fatalf("shows a secret: %v", err)
			}
			return
		}
		p := &printer{}
		p.mapping(reflect.ValueOf(*c), "", "")
		again, err := Parse("printed", []byte(p.b.String()), testEnv)
		if err != nil {
			t.Fatalf("%v\n%s", err, p.b.String())
		}
		if !same(c, again) {
			t.Fatalf("printed, it means something else:\n%s", p.b.String())
		}
	})
}
