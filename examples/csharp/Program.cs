// Calls an API with a token of the broker: dotnet run -- DESTINATION URL

using var broker = new Broker(args[0]);
using var http = new HttpClient(new BrokerHandler(broker) { InnerHandler = new HttpClientHandler() });
using var response = await http.GetAsync(args[1]);
Console.WriteLine($"{(int)response.StatusCode} {await response.Content.ReadAsStringAsync()}");
return response.IsSuccessStatusCode ? 0 : 1;
