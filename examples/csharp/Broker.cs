using System.Security.Cryptography.X509Certificates;
using Google.Rpc;
using Grpc.Core;
using Grpc.Net.Client;
using Tokenbroker.V1;

/// <summary>The tokens of one destination.</summary>
public sealed class Broker : IDisposable
{
    /// <summary>For everything that one token takes.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private readonly GrpcChannel channel;
    private readonly TokenBroker.TokenBrokerClient client;
    private readonly string destination;

    public Broker(string destination)
    {
        var authority = X509Certificate2.CreateFromPem(File.ReadAllText(Variable("TOKEN_BROKER_CA")));
        var handler = new SocketsHttpHandler();
        handler.SslOptions.ClientCertificates = new X509CertificateCollection
        {
            X509Certificate2.CreateFromPemFile(Variable("TOKEN_BROKER_CERT"), Variable("TOKEN_BROKER_KEY")),
        };
        // The system's authorities are not asked; the host's name is checked as ever.
        handler.SslOptions.CertificateChainPolicy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            CustomTrustStore = { authority },
            RevocationMode = X509RevocationMode.NoCheck,
        };
        channel = GrpcChannel.ForAddress(
            Variable("TOKEN_BROKER_ENDPOINT"), new GrpcChannelOptions { HttpHandler = handler });
        client = new TokenBroker.TokenBrokerClient(channel);
        this.destination = destination;
    }

    /// <summary>A token that is valid now. The broker is the cache: ask for every call.</summary>
    public async Task<GetTokenResponse> TokenAsync(CancellationToken cancelled)
    {
        var giveUp = DateTime.UtcNow + Patience;
        var request = new GetTokenRequest { DestinationId = destination };
        while (true)
        {
            try
            {
                return await client.GetTokenAsync(request, deadline: giveUp, cancellationToken: cancelled);
            }
            catch (RpcException error)
                when (RetryDelay(error) is { } delay && DateTime.UtcNow + delay < giveUp)
            {
                await Task.Delay(delay, cancelled);
            }
        }
    }

    /// <summary>Reports a token that the API answered with 401, and waits for the next one.</summary>
    public async Task<GetTokenResponse?> SuccessorAsync(GetTokenResponse rejected, CancellationToken cancelled)
    {
        var giveUp = DateTime.UtcNow + Patience;
        var report = new ReportRejectedRequest { DestinationId = destination, TokenId = rejected.TokenId };
        var reply = await client.ReportRejectedAsync(report, deadline: giveUp, cancellationToken: cancelled);
        if (reply.Outcome == ReportOutcome.IgnoredRate)
        {
            return null;
        }
        var request = new WatchTokenRequest { DestinationId = destination };
        using var watch = client.WatchToken(request, deadline: giveUp, cancellationToken: cancelled);
        await foreach (var message in watch.ResponseStream.ReadAllAsync(cancelled))
        {
            if (message.Token is { } token && token.TokenId != rejected.TokenId)
            {
                return token;
            }
        }
        return null;
    }

    public void Dispose() => channel.Dispose();

    /// <summary>When trying again can help, if it can.</summary>
    private static TimeSpan? RetryDelay(RpcException error) =>
        error.GetRpcStatus()?.GetDetail<RetryInfo>()?.RetryDelay?.ToTimeSpan();

    private static string Variable(string name) =>
        Environment.GetEnvironmentVariable(name)
        ?? throw new InvalidOperationException($"the variable {name} is not set");
}
