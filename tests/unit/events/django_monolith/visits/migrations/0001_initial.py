"""Creates the table of the visits and that of the second outbox."""

from django.db import migrations, models

from offload.client.django.fields import UtcMomentField


class Migration(migrations.Migration):
    """As `makemigrations` writes it."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Visit",
            fields=[("visit", models.CharField(max_length=64, primary_key=True, serialize=False))],
        ),
        migrations.CreateModel(
            name="AuditEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("event_id", models.CharField(max_length=256)),
                ("event_type", models.CharField(max_length=256)),
                ("ordering_key", models.CharField(max_length=255)),
                ("event", models.TextField()),
                ("state", models.CharField(max_length=9)),
                ("written_at", UtcMomentField()),
                ("published_at", UtcMomentField(null=True)),
                ("attempts", models.IntegerField(default=0)),
                ("refusals", models.IntegerField(default=0)),
                ("retry_at", UtcMomentField(null=True)),
                ("reason", models.TextField(null=True)),
                ("lease", models.CharField(max_length=32, null=True)),
                ("leased_until", UtcMomentField(null=True)),
            ],
            options={
                "db_table": "audit_events",
                "indexes": [
                    models.Index(fields=["state", "id"], name="audit_events_by_state"),
                    models.Index(fields=["ordering_key", "state", "id"], name="audit_events_by_key"),
                ],
            },
        ),
    )
