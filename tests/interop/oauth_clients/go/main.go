// Gets a token with golang.org/x/oauth2/clientcredentials, over HTTP/1.1 and over HTTP/2.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	log.SetFlags(0)
	var tokens []string
	for _, http2 := range []bool{false, true} {
		token, err := token(http2)
		if err != nil {
			log.Fatalf("HTTP/2 %t: %v", http2, err)
		}
		tokens = append(tokens, token)
	}
	if tokens[0] != tokens[1] {
		log.Fatal("two tokens")
	}
	if err := os.WriteFile(os.Getenv("TOKEN_FILE"), []byte(tokens[0]), 0o600); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("a token of %d characters\n", len(tokens[0]))
}

func token(http2 bool) (string, error) {
	ca, err := os.ReadFile(os.Getenv("TOKEN_BROKER_CA"))
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	pair, err := tls.LoadX509KeyPair(os.Getenv("TOKEN_BROKER_CERT"), os.Getenv("TOKEN_BROKER_KEY"))
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
		ForceAttemptHTTP2: http2,
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ctx = context.WithValue(ctx, oauth2.HTTPClient, client)

	config := clientcredentials.Config{
		ClientID:       "whoever",
		ClientSecret:   "whatever",
		TokenURL:       os.Getenv("TOKEN_BROKER_ENDPOINT") + "/oauth2/token",
		Scopes:         []string{"anything"},
		EndpointParams: url.Values{"audience": {os.Getenv("AUDIENCE")}},
	}
	granted, err := config.Token(ctx)
	if err != nil {
		return "", err
	}
	config.EndpointParams = url.Values{"audience": {"somebody-elses"}}
	var refused *oauth2.RetrieveError
	if _, err := config.Token(ctx); !errors.As(err, &refused) || refused.ErrorCode != "invalid_target" {
		return "", fmt.Errorf("%v instead of invalid_target", err)
	}
	return granted.AccessToken, nil
}
