package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/oauth2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "example/tokenbroker/v1"
)

// patience is for everything that one token takes.
const patience = 10 * time.Second

// Broker has the tokens of one destination. It is an oauth2.TokenSource; the broker is the
// cache, so oauth2.ReuseTokenSource is not needed around it.
type Broker struct {
	conn        *grpc.ClientConn
	client      pb.TokenBrokerClient
	destination string
}

var _ oauth2.TokenSource = (*Broker)(nil)

func NewBroker(destination string) (*Broker, error) {
	certificate, err := tls.LoadX509KeyPair(os.Getenv("TOKEN_BROKER_CERT"), os.Getenv("TOKEN_BROKER_KEY"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(os.Getenv("TOKEN_BROKER_CA"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("no certificate in TOKEN_BROKER_CA")
	}
	endpoint, err := url.Parse(os.Getenv("TOKEN_BROKER_ENDPOINT"))
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(endpoint.Host, grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: roots},
	)))
	if err != nil {
		return nil, err
	}
	return &Broker{conn, pb.NewTokenBrokerClient(conn), destination}, nil
}

func (b *Broker) Close() error { return b.conn.Close() }

// Token gives a token that is valid now. Ask for every call.
func (b *Broker) Token() (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		token, err := b.client.GetToken(ctx, &pb.GetTokenRequest{DestinationId: b.destination})
		if err == nil {
			return forOAuth2(token), nil
		}
		delay, ok := retryDelay(err)
		if deadline, _ := ctx.Deadline(); !ok || time.Now().Add(delay).After(deadline) {
			return nil, err
		}
		time.Sleep(delay)
	}
}

// Successor reports a token that the API answered with 401, and waits for the next one.
func (b *Broker) Successor(rejected *oauth2.Token) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id := rejected.Extra("token_id").(string)
	report, err := b.client.ReportRejected(ctx, &pb.ReportRejectedRequest{DestinationId: b.destination, TokenId: id})
	if err != nil {
		return nil, err
	}
	if report.Outcome == pb.ReportOutcome_REPORT_OUTCOME_IGNORED_RATE {
		return nil, errors.New("reported too often")
	}
	stream, err := b.client.WatchToken(ctx, &pb.WatchTokenRequest{DestinationId: b.destination})
	if err != nil {
		return nil, err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if token := event.GetToken(); token != nil && token.TokenId != id {
			return forOAuth2(token), nil
		}
	}
}

func forOAuth2(token *pb.GetTokenResponse) *oauth2.Token {
	converted := &oauth2.Token{
		AccessToken: token.AccessToken,
		TokenType:   token.TokenType,
		Expiry:      time.Now().Add(token.ExpiresIn.AsDuration()),
	}
	return converted.WithExtra(map[string]any{"token_id": token.TokenId})
}

// retryDelay says when trying again can help, if it can.
func retryDelay(err error) (time.Duration, bool) {
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return retry.RetryDelay.AsDuration(), true
		}
	}
	return 0, false
}

// Transport presents the broker's tokens, and tries once more after a 401.
type Transport struct {
	Broker *Broker
	Base   http.RoundTripper
}

func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	// The token is for the host that was asked, and not for one that it redirects to.
	first := request
	for first.Response != nil {
		first = first.Response.Request
	}
	if first.URL.Scheme != request.URL.Scheme || first.URL.Host != request.URL.Host {
		return t.Base.RoundTrip(request)
	}
	token, err := t.Broker.Token()
	if err != nil {
		return nil, err
	}
	response, err := t.send(request, token)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	successor, err := t.Broker.Successor(token)
	// Without a successor, or a body to be had again, the API's own answer has to do.
	if err != nil || (request.Body != nil && request.GetBody == nil) {
		return response, nil
	}
	response.Body.Close()
	return t.send(request, successor)
}

func (t *Transport) send(request *http.Request, token *oauth2.Token) (*http.Response, error) {
	// A RoundTripper must not change the request that it is given.
	request = request.Clone(request.Context())
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return nil, err
		}
		request.Body = body
	}
	token.SetAuthHeader(request)
	return t.Base.RoundTrip(request)
}
