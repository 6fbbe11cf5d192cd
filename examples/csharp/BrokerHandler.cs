using System.Net;
using System.Net.Http.Headers;
using Grpc.Core;
using Tokenbroker.V1;

/// <summary>Presents the broker's tokens, and tries once more after a 401.</summary>
public sealed class BrokerHandler(Broker broker) : DelegatingHandler
{
    protected override async Task<HttpResponseMessage> SendAsync(
        HttpRequestMessage request, CancellationToken cancelled)
    {
        // Read into memory, so that it can be sent twice.
        if (request.Content is not null)
        {
            await request.Content.LoadIntoBufferAsync();
        }
        var token = await broker.TokenAsync(cancelled);
        request.Headers.Authorization = Header(token);
        var response = await base.SendAsync(request, cancelled);
        // A redirect takes the token away: the answer may be that of another host.
        if (response.StatusCode != HttpStatusCode.Unauthorized || request.Headers.Authorization is null)
        {
            return response;
        }
        GetTokenResponse? successor;
        try
        {
            successor = await broker.SuccessorAsync(token, cancelled);
        }
        catch (RpcException) when (!cancelled.IsCancellationRequested)
        {
            successor = null;
        }
        catch
        {
            response.Dispose();
            throw;
        }
        // Without a successor the API's own answer has to do.
        if (successor is null)
        {
            return response;
        }
        response.Dispose();
        request.Headers.Authorization = Header(successor);
        return await base.SendAsync(request, cancelled);
    }

    private static AuthenticationHeaderValue Header(GetTokenResponse token) =>
        new(token.TokenType, token.AccessToken);
}
