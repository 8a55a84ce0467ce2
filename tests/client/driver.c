/* Stands in for sluice.sys under Wine, whose kernel runs drivers without a network: one adapter, whose every third frame
 * is refused because the module is paused. A frame that begins with AA 55 ends its request with the status in the four
 * bytes behind, little-endian. What the client's Windows half does is tested with it: opening, buffered and direct
 * requests, overlapped completion, and the way of a status from the driver to the client. */
#include <ntddk.h>

#define IOCTL_VERSION 0x00126000
#define IOCTL_LIST 0x00126004
#define IOCTL_BIND 0x0012E008
#define IOCTL_SEND 0x0012E00E
#define IOCTL_STATISTICS 0x00126010

enum { VERSION_REPLY = 16, LIST_HEADER = 8, MODULE_RECORD = 344, BIND_REQUEST = 24, SEND_HEADER = 8, STATISTICS = 104 };
enum { INDEX = 7, MTU = 1500, RUNNING = 4 };

static const UCHAR guid[16] = {0xA0, 0xB1, 0xC2, 0xD3, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, INDEX};
static const WCHAR name[] = L"Adapter \x00fc\x4e2d";
static const ULONG paused = 0xC023002A;
static LONG frames;

static void put(UCHAR *at, ULONG value)
{
    memcpy(at, &value, sizeof value);
}

static ULONG get(const UCHAR *at)
{
    ULONG value;
    memcpy(&value, at, sizeof value);
    return value;
}

static NTSTATUS end(IRP *irp, NTSTATUS status, ULONG_PTR length)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = length;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static NTSTATUS NTAPI opened_or_closed(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    return end(irp, STATUS_SUCCESS, 0);
}

static void list(UCHAR *buffer)
{
    UCHAR *module = buffer + LIST_HEADER;
    USHORT units = sizeof name / sizeof *name - 1;
    memset(buffer, 0, LIST_HEADER + MODULE_RECORD);
    put(buffer, 1);
    put(buffer + 4, 1);
    memcpy(module, guid, sizeof guid);
    put(module + 32, INDEX);
    put(module + 36, MTU);
    put(module + 40, RUNNING);
    put(module + 44, 1);
    memcpy(module + 52, &units, sizeof units);
    module[54] = 6;
    module[56] = 2;
    memcpy(module + 88, name, units * sizeof *name);
}

static NTSTATUS send(IRP *irp, const UCHAR *input, ULONG in, ULONG out)
{
    ULONG count = in < SEND_HEADER ? 0 : get(input + 4);
    ULONG index, need = 4 * count;
    UCHAR *results;
    if (count == 0 || in != SEND_HEADER + 4 * count)
        return end(irp, STATUS_INVALID_PARAMETER, 0);
    for (index = 0; index < count; index++)
        need += get(input + SEND_HEADER + 4 * index);
    if (out != need)
        return end(irp, STATUS_INVALID_BUFFER_SIZE, 0);
    results = MmGetSystemAddressForMdlSafe(irp->MdlAddress, NormalPagePriority);
    if (results[4 * count] == 0xAA && results[4 * count + 1] == 0x55)
        return end(irp, get(results + 4 * count + 2), 0);
    for (index = 0; index < count; index++)
        put(results + 4 * index, InterlockedIncrement(&frames) % 3 == 0 ? paused : 0);
    return end(irp, STATUS_SUCCESS, out);
}

static NTSTATUS NTAPI control(DEVICE_OBJECT *device, IRP *irp)
{
    IO_STACK_LOCATION *stack = IoGetCurrentIrpStackLocation(irp);
    ULONG in = stack->Parameters.DeviceIoControl.InputBufferLength;
    ULONG out = stack->Parameters.DeviceIoControl.OutputBufferLength;
    UCHAR *buffer = irp->AssociatedIrp.SystemBuffer;
    (void)device;
    switch (stack->Parameters.DeviceIoControl.IoControlCode) {
    case IOCTL_VERSION:
        if (out < VERSION_REPLY)
            return end(irp, STATUS_BUFFER_TOO_SMALL, 0);
        memset(buffer, 0, VERSION_REPLY);
        buffer[0] = 1;
        put(buffer + 12, 512);
        return end(irp, STATUS_SUCCESS, VERSION_REPLY);
    case IOCTL_LIST:
        if (out < LIST_HEADER + MODULE_RECORD)
            return end(irp, STATUS_BUFFER_TOO_SMALL, 0);
        list(buffer);
        return end(irp, STATUS_SUCCESS, LIST_HEADER + MODULE_RECORD);
    case IOCTL_BIND:
        if (in != BIND_REQUEST || memcmp(buffer + 8, guid, sizeof guid) != 0)
            return end(irp, STATUS_NOT_FOUND, 0);
        return end(irp, STATUS_SUCCESS, 0);
    case IOCTL_SEND:
        return send(irp, buffer, in, out);
    case IOCTL_STATISTICS:
        if (out < STATISTICS)
            return end(irp, STATUS_BUFFER_TOO_SMALL, 0);
        memset(buffer, 0, STATISTICS);
        put(buffer + 96, RUNNING);
        return end(irp, STATUS_SUCCESS, STATISTICS);
    }
    return end(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}

static void NTAPI unload(DRIVER_OBJECT *driver)
{
    UNICODE_STRING link;
    RtlInitUnicodeString(&link, L"\\DosDevices\\Sluice");
    IoDeleteSymbolicLink(&link);
    IoDeleteDevice(driver->DeviceObject);
}

NTSTATUS NTAPI DriverEntry(DRIVER_OBJECT *driver, UNICODE_STRING *path)
{
    UNICODE_STRING device_name, link;
    DEVICE_OBJECT *device;
    NTSTATUS status;
    (void)path;
    RtlInitUnicodeString(&device_name, L"\\Device\\Sluice");
    RtlInitUnicodeString(&link, L"\\DosDevices\\Sluice");
    status = IoCreateDevice(driver, 0, &device_name, FILE_DEVICE_NETWORK, 0, FALSE, &device);
    if (status != STATUS_SUCCESS)
        return status;
    driver->MajorFunction[IRP_MJ_CREATE] = opened_or_closed;
    driver->MajorFunction[IRP_MJ_CLEANUP] = opened_or_closed;
    driver->MajorFunction[IRP_MJ_CLOSE] = opened_or_closed;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = control;
    driver->DriverUnload = unload;
    return IoCreateSymbolicLink(&link, &device_name);
}
