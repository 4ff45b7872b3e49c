// Package greeting is a module for Caddy: the directive `greeting TEXT` sends TEXT in a header.
package greeting

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(Greeting{})
	httpcaddyfile.RegisterHandlerDirective("greeting", parse)
	httpcaddyfile.RegisterDirectiveOrder("greeting", httpcaddyfile.After, "header")
}

type Greeting struct {
	Text string `json:"text"`
}

func (Greeting) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.greeting", New: func() caddy.Module { return new(Greeting) }}
}

func (g Greeting) ServeHTTP(answer http.ResponseWriter, request *http.Request, next caddyhttp.Handler) error {
	answer.Header().Set("Greeting", g.Text)
	return next.ServeHTTP(answer, request)
}

func parse(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	greeting := new(Greeting)
	if !helper.Next() || !helper.AllArgs(&greeting.Text) {
		return nil, helper.ArgErr()
	}
	return greeting, nil
}
