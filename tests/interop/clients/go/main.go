// Makes the calls that it reads from standard input, and prints what each of them got.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "example/tokenbroker/v1"
)

const patience = 20 * time.Second

type call struct {
	pb.TokenBrokerClient
	destination, argument string
}

var methods = map[string]func(call) (string, error){
	"get":           call.get,
	"get-within":    call.getWithin,
	"get-for-ever":  call.getForEver,
	"get-often":     call.getOften,
	"get-at-once":   call.getAtOnce,
	"watch":         call.watch,
	"watch-within":  call.watchWithin,
	"watch-trouble": call.watchTrouble,
	"report":        call.report,
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		conn := connect(words[1])
		made := call{pb.NewTokenBrokerClient(conn), words[3], words[4]}
		outcome, err := methods[words[2]](made)
		if err != nil {
			outcome = described(err)
		}
		fmt.Println(words[0], outcome)
		conn.Close()
	}
}

func connect(who string) *grpc.ClientConn {
	file := func(name string) string { return filepath.Join(os.Getenv("INTEROP_FOLDER"), name) }
	certificate, err := tls.LoadX509KeyPair(file(who+".pem"), file(who+".key"))
	check(err)
	ca, err := os.ReadFile(file("ca.pem"))
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	settings := &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: roots}
	target := strings.TrimPrefix(os.Getenv("TOKEN_BROKER_ENDPOINT"), "https://")
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(credentials.NewTLS(settings)))
	check(err)
	return conn
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func described(err error) string {
	told := status.Convert(err)
	reason, retry := "-", "-"
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.Reason
			if detail.Domain != "tokenbroker" {
				reason = "not ours: " + detail.Domain
			}
		case *errdetails.RetryInfo:
			retry = "retry"
		}
	}
	// DeadlineExceeded, as the others spell it: DEADLINE_EXCEEDED.
	code := regexp.MustCompile("([a-z])([A-Z])").ReplaceAllString(told.Code().String(), "${1}_$2")
	return fmt.Sprintf("%s %s %s", strings.ToUpper(code), reason, retry)
}

func (c call) ask(ctx context.Context) (*pb.GetTokenResponse, error) {
	return c.GetToken(ctx, &pb.GetTokenRequest{DestinationId: c.destination})
}

func (c call) number() int {
	number, err := strconv.Atoi(c.argument)
	check(err)
	return number
}

func (c call) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Duration(c.number())*time.Millisecond)
}

func patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (c call) get() (string, error) {
	ctx, cancel := patient()
	defer cancel()
	request := &pb.GetTokenRequest{DestinationId: c.destination}
	if c.argument != "-" {
		request.MinValidity = &durationpb.Duration{Seconds: int64(c.number())}
	}
	token, err := c.GetToken(ctx, request)
	if err == nil && (token.AccessToken == "" || token.TokenId == "" || token.ExpiresIn.AsDuration() <= 0) {
		return "incomplete", nil
	}
	return "OK " + token.GetTokenType(), err
}

func (c call) getWithin() (string, error) {
	ctx, cancel := c.within()
	defer cancel()
	_, err := c.ask(ctx)
	return "OK", err
}

func (c call) getForEver() (string, error) {
	_, err := c.ask(context.Background())
	return "OK", err
}

func (c call) getOften() (string, error) {
	ctx, cancel := patient()
	defer cancel()
	for range c.number() {
		if _, err := c.ask(ctx); err != nil {
			return "", err
		}
	}
	return "OK", nil
}

func (c call) getAtOnce() (string, error) {
	ctx, cancel := patient()
	defer cancel()
	answers := make(chan string)
	for range c.number() {
		go func() {
			answer := "OK"
			if _, err := c.ask(ctx); err != nil {
				answer = described(err)
			}
			answers <- answer
		}()
	}
	outcome := "OK"
	for range c.number() {
		if answer := <-answers; !strings.HasPrefix(answer, "DEADLINE") {
			outcome = answer
		}
	}
	return outcome, nil
}

// Reads events until one is enough.
func (c call) events(ctx context.Context, enough func(*pb.WatchTokenResponse) (string, bool)) (string, error) {
	stream, err := c.WatchToken(ctx, &pb.WatchTokenRequest{DestinationId: c.destination})
	if err != nil {
		return "", err
	}
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return "the end", nil
		}
		if err != nil {
			return "", err
		}
		if outcome, ok := enough(event); ok {
			return outcome, nil
		}
	}
}

func (c call) watch() (string, error) {
	ctx, cancel := patient()
	defer cancel()
	ids, count := map[string]bool{}, 0
	return c.events(ctx, func(event *pb.WatchTokenResponse) (string, bool) {
		if event.GetToken() == nil {
			return event.GetUnavailable().GetReason(), true
		}
		ids[event.GetToken().TokenId] = true
		count++
		return fmt.Sprintf("OK %d", len(ids)), count == c.number()
	})
}

func (c call) watchWithin() (string, error) {
	ctx, cancel := c.within()
	defer cancel()
	return c.events(ctx, func(*pb.WatchTokenResponse) (string, bool) { return "an event", true })
}

func (c call) watchTrouble() (string, error) {
	ctx, cancel := patient()
	defer cancel()
	return c.events(ctx, func(event *pb.WatchTokenResponse) (string, bool) {
		trouble := event.GetUnavailable()
		if trouble == nil {
			return "a token", true
		}
		retry := "-"
		if trouble.RetryDelay != nil {
			retry = "retry"
		}
		return fmt.Sprintf("IN_BAND %s %s", trouble.Reason, retry), true
	})
}

func (c call) report() (string, error) {
	ctx, cancel := patient()
	defer cancel()
	told := func(id string) string {
		reply, err := c.ReportRejected(ctx, &pb.ReportRejectedRequest{DestinationId: c.destination, TokenId: id})
		if err != nil {
			return described(err)
		}
		return strings.TrimPrefix(reply.Outcome.String(), "REPORT_OUTCOME_")
	}
	token, err := c.ask(ctx)
	if err != nil {
		return "", err
	}
	first := told(token.TokenId)
	return c.events(ctx, func(event *pb.WatchTokenResponse) (string, bool) {
		successor := event.GetToken().GetTokenId()
		if successor == "" || successor == token.TokenId {
			return "", false
		}
		return strings.Join([]string{first, told(token.TokenId), told(successor)}, " "), true
	})
}
